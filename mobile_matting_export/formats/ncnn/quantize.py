"""Half weights: a ``.ncnn.bin`` of float32 rewritten with float16 where it saves something.

The ``.bin`` carries no names and no lengths: the layers of the ``.param``, in order, say what comes next.
A main weight is *tagged*: a 32-bit word names its storage, the numbers follow, padded to 4 bytes
(Tencent/ncnn, ``src/modelbin.cpp``). Biases, slopes and the numbers of normalizations are plain float32.

Small weights stay float32 (see ``SMALL_WEIGHT``), which helps where ncnn computes in fp32: trained
SegMattingNet's largest error on ``ncnn-cpu`` fell from 0.1104 to 0.0093 (41 photographs). With its fp16
options on ncnn rounds them itself: on a Vulkan device the alpha was that of all weights halved, bit for bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile

FLOAT32_TAG = 0
FLOAT16_TAG = 0x01306B47
HALF_MAX = 65504.0

_PADDING = b"\x83\x22"
"""Behind an odd number of halves; ncnn skips it, and pnnx writes these very bytes."""


@dataclass(frozen=True)
class Block:
    """``count`` numbers that a layer reads from the ``.bin`` in one go, behind a tag or plain."""

    count: int
    tagged: bool


def round_weights_to_half(network: ParamFile, weights: bytes, largest_float: int = SMALL_WEIGHT) -> bytes:
    """Return the ``.bin`` with its large tagged weights as float16, everything else bit for bit.

    Args:
        network: the ``.param`` to which ``weights`` belong.
        weights: content of a ``.bin`` whose tagged weights are float32, as pnnx writes it with ``fp16=0``.
        largest_float: tagged weights of at most so many elements stay float32.

    Weights are rounded to nearest, ties to even, below 2**-14 to float16's subnormals. (pnnx with ``fp16=1``
    rounds ties away from zero and writes 0 for everything below 2**-14; all else agrees bit for bit.)

    Raises:
        ConversionError: a layer type whose weights cannot be read, weights that are not float32, a file
            too short or too long for the network, or a weight beyond float16's 65504; names the layer.
    """
    written: list[bytes] = []
    position = 0
    for layer in network.layers:
        for block in weight_blocks(layer):
            start = position + 4 * block.tagged
            end = start + 4 * block.count
            if end > len(weights):
                raise ConversionError(
                    f"the weights end in layer {layer.name!r} ({layer.type}): {end} bytes are needed, there are "
                    f"{len(weights)}; {_REMEDY}"
                )
            if block.tagged:
                _check_tag(weights[position:start], layer)
            if block.tagged and block.count > largest_float:
                written.append(_as_half(weights[start:end], layer))
            else:
                written.append(weights[position:end])
            position = end
    if position != len(weights):
        unread = sorted({layer.type for layer in network.layers} - _BLOCKS.keys())
        raise ConversionError(
            f"{len(weights) - position} bytes of weights belong to no known layer; one of these may have some: "
            f"{', '.join(unread)}; {_REMEDY}"
        )
    return b"".join(written)


_REMEDY = "convert to fp32, and report the network"


def _check_tag(word: bytes, layer: Layer) -> None:
    (tag,) = struct.unpack("<I", word)
    if tag != FLOAT32_TAG:
        raise ConversionError(
            f"the weights of layer {layer.name!r} ({layer.type}) are not float32 (tag {tag:#010x}); {_REMEDY}"
        )


def _as_half(numbers: bytes, layer: Layer) -> bytes:
    values = np.frombuffer(numbers, "<f4")
    peak = float(np.abs(values).max())
    if not peak <= HALF_MAX:  # also true of NaN
        raise ConversionError(
            f"a weight of layer {layer.name!r} ({layer.type}) reaches {peak:g}, beyond fp16's 65504; convert to fp32"
        )
    halves = values.astype("<f2").tobytes()
    return struct.pack("<I", FLOAT16_TAG) + halves + _PADDING * (len(values) % 2)


def weight_blocks(layer: Layer) -> tuple[Block, ...]:
    """Return what ``layer`` reads from the ``.bin``, in order.

    A type not listed is taken to read nothing; the file's length must prove it.

    Raises:
        ConversionError: the layer has weights in an arrangement not known here.
    """
    if layer.type in _UNREAD:
        raise ConversionError(
            f"fp16 weights of {layer.type} (layer {layer.name!r}) are not supported; "
            "convert to fp32, or build that layer of convolutions"
        )
    read = _BLOCKS.get(layer.type)
    return read(layer) if read else ()


def _convolution(layer: Layer) -> tuple[Block, ...]:
    # 19: weights come from another layer, not from the file
    return () if layer.setting(19) else _weight_and_bias(layer, size=6, bias=5)


def _deconvolution(layer: Layer) -> tuple[Block, ...]:
    return () if layer.setting(28) else _weight_and_bias(layer, size=6, bias=5)


def _weight_and_bias(layer: Layer, size: int, bias: int) -> tuple[Block, ...]:
    """``size`` and ``bias`` are the keys of the weight's element count and of whether there is a bias."""
    weight = Block(layer.setting(size), tagged=True)
    return (weight, *_plain(layer.setting(0))) if layer.setting(bias) else (weight,)


def _plain(*counts: int) -> tuple[Block, ...]:
    return tuple(Block(count, tagged=False) for count in counts)


def _tagged(*counts: int) -> tuple[Block, ...]:
    return tuple(Block(count, tagged=True) for count in counts)


def _affine(layer: Layer, channels: int, switch: int) -> tuple[Block, ...]:
    """Scale and shift of a normalization, under the keys of their length and of whether they exist."""
    count = layer.setting(channels)
    return _plain(count, count) if layer.setting(switch, 1) else ()


def _scale(layer: Layer) -> tuple[Block, ...]:
    count = layer.setting(0)
    if count == -233:  # the scale is the layer's second input
        return ()
    return _plain(count, count) if layer.setting(1) else _plain(count)


def _memory_data(layer: Layer) -> tuple[Block, ...]:
    count = 1
    for side in (0, 1, 11, 2):  # width, height, depth, channels; 0 where there is no such axis
        count *= layer.setting(side) or 1
    return (Block(count, tagged=layer.setting(21, 1) == 0),)


def _gemm(layer: Layer) -> tuple[Block, ...]:
    rows, columns, inner = (layer.setting(key) for key in (7, 8, 9))
    counts = []
    if layer.setting(4):
        counts.append(rows * inner)
    if layer.setting(5):
        counts.append(inner * columns)
    if layer.setting(6) and layer.setting(10) != -1:
        # key 10: to what the addend is broadcast
        counts.append({0: 1, 1: rows, 2: rows, 3: rows * columns, 4: columns}[layer.setting(10)])
    return _tagged(*counts)


def _attention(layer: Layer) -> tuple[Block, ...]:
    width = layer.setting(0)
    queries = layer.setting(2) // width
    blocks: tuple[Block, ...] = ()
    for inputs, outputs in (
        (queries, width),
        (layer.setting(3, width), width),
        (layer.setting(4, width), width),
        (width, queries),
    ):
        blocks += _tagged(inputs * outputs) + _plain(outputs)
    return blocks


_BLOCKS: Mapping[str, Callable[[Layer], tuple[Block, ...]]] = {
    "Convolution": _convolution,
    "Convolution1D": _convolution,
    "Convolution3D": _convolution,
    "ConvolutionDepthWise": _convolution,
    "ConvolutionDepthWise1D": _convolution,
    "ConvolutionDepthWise3D": _convolution,
    "Deconvolution": _deconvolution,
    "Deconvolution1D": _deconvolution,
    "Deconvolution3D": _deconvolution,
    "DeconvolutionDepthWise": _deconvolution,
    "DeconvolutionDepthWise1D": _deconvolution,
    "DeconvolutionDepthWise3D": _deconvolution,
    "DeformableConv2D": lambda layer: _weight_and_bias(layer, size=6, bias=5),
    "InnerProduct": lambda layer: _weight_and_bias(layer, size=2, bias=1),
    "Embed": lambda layer: _weight_and_bias(layer, size=3, bias=2),
    "Gemm": _gemm,
    "MultiHeadAttention": _attention,
    "MemoryData": _memory_data,
    "BatchNorm": lambda layer: _plain(*[layer.setting(0)] * 4),
    "InstanceNorm": lambda layer: _affine(layer, channels=0, switch=2),
    "LayerNorm": lambda layer: _affine(layer, channels=0, switch=2),
    "GroupNorm": lambda layer: _affine(layer, channels=1, switch=3),
    "RMSNorm": lambda layer: _plain(layer.setting(0)) if layer.setting(2, 1) else (),
    "Normalize": lambda layer: _plain(layer.setting(3)),
    "PReLU": lambda layer: _plain(layer.setting(0)),
    "Bias": lambda layer: _plain(layer.setting(0)),
    "Scale": _scale,
}

_UNREAD = frozenset({"LSTM", "GRU", "RNN", "Quantize", "Dequantize", "Requantize"})
