"""Walks a ``.ncnn.bin`` block by block; the layers of the ``.param``, in order, say what comes next.

The ``.bin`` carries no names and no lengths. A main weight is *tagged*: a 32-bit word names its storage, the
numbers follow, padded to 4 bytes (Tencent/ncnn, ``src/modelbin.cpp``). Biases, slopes, scales and the numbers
of normalizations are plain float32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile

FLOAT32_TAG = 0
RAW_FLOAT32_TAG = 0x0002C056
FLOAT16_TAG = 0x01306B47
INT8_TAG = 0x000D4B38
CODEBOOK_TAG = 1
"""Any other word than those above says the same: 256 float32 values, then a byte for each weight."""
CODEBOOK_ENTRIES = 256

INT8_TERM = 8
"""Key that says that a layer computes in int8; above 100 its output is int8, too."""
INT8_OUTPUT = 100

REMEDY = "convert to fp32, and report the network"


@dataclass(frozen=True)
class Block:
    """``count`` numbers that a layer reads from the ``.bin`` in one go, behind a tag or plain."""

    count: int
    tagged: bool


@dataclass(frozen=True)
class Stored:
    """One block as the file holds it: ``tag`` is None for plain float32; ``data`` is what follows, with its padding."""

    layer: Layer
    block: Block
    tag: int | None
    data: bytes

    @property
    def raw(self) -> bytes:
        """The block's bytes in the file."""
        return self.data if self.tag is None else struct.pack("<I", self.tag) + self.data

    def values(self) -> np.ndarray:
        """Its numbers, flat: int8 as stored, everything else as float32."""
        count = self.block.count
        if self.tag in (None, FLOAT32_TAG, RAW_FLOAT32_TAG):
            return np.frombuffer(self.data, "<f4", count)
        if self.tag == FLOAT16_TAG:
            return np.frombuffer(self.data, "<f2", count).astype("<f4")
        if self.tag == INT8_TAG:
            return np.frombuffer(self.data, np.int8, count)
        table = np.frombuffer(self.data, "<f4", CODEBOOK_ENTRIES)
        return table[np.frombuffer(self.data, np.uint8, count, table.nbytes)]


def walk_weights(network: ParamFile, weights: bytes) -> Iterator[Stored]:
    """Yield every block of ``weights``, the content of the ``.bin`` that belongs to ``network``.

    Raises:
        ConversionError: a layer type whose weights cannot be read, or a file too short or too long for the
            network; names the layer.
    """
    position = 0
    for layer in network.layers:
        for block in weight_blocks(layer):
            start, tag = position, None
            if block.tagged:
                start += 4
                if start <= len(weights):
                    (tag,) = struct.unpack_from("<I", weights, position)
            end = start + _length(block, tag)
            if end > len(weights):
                raise ConversionError(
                    f"the weights end in layer {layer.name!r} ({layer.type}): {end} bytes are needed, there are "
                    f"{len(weights)}; {REMEDY}"
                )
            yield Stored(layer, block, tag, weights[start:end])
            position = end
    if position != len(weights):
        unread = sorted({layer.type for layer in network.layers} - _BLOCKS.keys())
        raise ConversionError(
            f"{len(weights) - position} bytes of weights belong to no known layer; one of these may have some: "
            f"{', '.join(unread)}; {REMEDY}"
        )


def _length(block: Block, tag: int | None) -> int:
    """Bytes behind the tag."""
    if tag in (None, FLOAT32_TAG, RAW_FLOAT32_TAG):
        return 4 * block.count
    if tag == FLOAT16_TAG:
        return _padded(2 * block.count)
    if tag == INT8_TAG:
        return _padded(block.count)
    return 4 * CODEBOOK_ENTRIES + _padded(block.count)


def _padded(length: int) -> int:
    return length + -length % 4


def weight_blocks(layer: Layer) -> tuple[Block, ...]:
    """Return what ``layer`` reads from the ``.bin``, in order.

    A type not listed is taken to read nothing; the file's length must prove it.

    Raises:
        ConversionError: the layer has weights in an arrangement not known here.
    """
    if layer.type in _UNREAD:
        raise ConversionError(
            f"weights of {layer.type} (layer {layer.name!r}) are only supported in fp32; "
            "convert to fp32, or build that layer of convolutions"
        )
    read = _BLOCKS.get(layer.type)
    return read(layer) if read else ()


def _convolution(layer: Layer) -> tuple[Block, ...]:
    # 19: weights come from another layer, not from the file
    if layer.setting(19):
        return ()
    return _weight_and_bias(layer, size=6, bias=5) + _int8_scales(layer, layer.setting(0))


def _depthwise(layer: Layer) -> tuple[Block, ...]:
    if layer.setting(19):
        return ()
    # 1: a weight scale for each group, 2: one for all
    scales = layer.setting(7, 1) if layer.setting(INT8_TERM) % INT8_OUTPUT == 1 else 1
    return _weight_and_bias(layer, size=6, bias=5) + _int8_scales(layer, scales)


def _inner_product(layer: Layer) -> tuple[Block, ...]:
    return _weight_and_bias(layer, size=2, bias=1) + _int8_scales(layer, layer.setting(0))


def _int8_scales(layer: Layer, weight_scales: int) -> tuple[Block, ...]:
    """Scales of the weight's channels, of the input, and of an output that is int8, too."""
    term = layer.setting(INT8_TERM)
    if not term:
        return ()
    return _plain(weight_scales, 1, 1) if term > INT8_OUTPUT else _plain(weight_scales, 1)


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
    "ConvolutionDepthWise": _depthwise,
    "ConvolutionDepthWise1D": _convolution,
    "ConvolutionDepthWise3D": _convolution,
    "Deconvolution": _deconvolution,
    "Deconvolution1D": _deconvolution,
    "Deconvolution3D": _deconvolution,
    "DeconvolutionDepthWise": _deconvolution,
    "DeconvolutionDepthWise1D": _deconvolution,
    "DeconvolutionDepthWise3D": _deconvolution,
    "DeformableConv2D": lambda layer: _weight_and_bias(layer, size=6, bias=5),
    "InnerProduct": _inner_product,
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
