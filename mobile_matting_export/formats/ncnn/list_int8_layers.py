"""What of an ncnn network can be computed in int8, and which blob each such layer reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile
from mobile_matting_export.formats.ncnn.read_graph import read_graph
from mobile_matting_export.quantization.layer import QuantizableLayer

# key of the number of weights, per type that ncnn computes in int8 and whose int8 weights lie in the file
_WEIGHT_COUNT = {"Convolution": 6, "ConvolutionDepthWise": 6, "InnerProduct": 2}
_DYNAMIC_WEIGHT = 19


def list_int8_layers(files: tuple[Path, ...], modules: Mapping[str, str] | None = None) -> tuple[QuantizableLayer, ...]:
    """Return the convolutions, depthwise convolutions and inner products of the fp32 ``files``, in their order.

    Transposed convolutions are not among them: ncnn computes them in float only.

    Args:
        files: ``.param`` and ``.bin`` in fp32.
        modules: layer name -> path of the PyTorch module it comes from, see ``name_modules``.

    Raises:
        UsageError: a file is missing, damaged, or no ncnn network, or does not state its input's size.
        ConversionError: the ncnn runtime is not installed.
    """
    param, weights = net.split_files(files)
    network = net.read_network(param)
    graph = read_graph(param, weights, None)
    layers = [layer for layer in network.layers if layer.type != "Input"]
    found = []
    for layer, op in zip(layers, graph.ops, strict=True):
        if not can_be_int8(layer):
            continue
        shape = graph.tensors[op.outputs[0]].shape
        found.append(
            QuantizableLayer(
                name=layer.name,
                module=(modules or {}).get(layer.name, ""),
                kind=layer.type,
                macs=op.macs or 0,
                weight_bytes=4 * layer.setting(_WEIGHT_COUNT[layer.type]),
                elements=math.prod(shape or ()),
            )
        )
    return tuple(found)


def list_slower_layers(files: tuple[Path, ...]) -> frozenset[str]:
    """Return the names of layers that can be int8 but gain no time by it: depthwise convolutions.

    They have few products for the numbers that are quantized and scaled back. On one x86 thread (AVX-512 VNNI, 25
    rounds in turns) trained MMNet took 1.06 of its fp32 time all int8, 0.91 with these in float; with its published
    weights its mean error fell from 0.00104 to 0.00064 (20 photographs).

    Raises:
        UsageError: the ``.param`` is missing or no ncnn network.
    """
    network = net.read_network(net.split_files(files)[0])
    return frozenset(
        layer.name for layer in network.layers if layer.type == "ConvolutionDepthWise" and can_be_int8(layer)
    )


def can_be_int8(layer: Layer) -> bool:
    """Whether ncnn has int8 arithmetic for this layer, its weights come from the file, and there is something to gain.

    A depthwise convolution of one pixel (what is left of a batch norm) multiplies once where quantizing its input
    multiplies once, too, and it widens unlike channels to one range: without these the mean error of trained
    SegMattingNet, all else int8, fell from 0.0228 to 0.0062 (20 photographs).
    """
    if layer.type not in _WEIGHT_COUNT or (layer.type != "InnerProduct" and layer.setting(_DYNAMIC_WEIGHT)):
        return False
    pixels = layer.setting(1, 1) * layer.setting(11, layer.setting(1, 1))
    return layer.type != "ConvolutionDepthWise" or pixels > 1


def trace_blobs(network: ParamFile) -> dict[str, str]:
    """Return blob -> the blob that it is a copy of, through ``Split`` layers; the others stand for themselves."""
    origin: dict[str, str] = {}
    for layer in network.layers:
        for blob in layer.outputs:
            origin[blob] = origin[layer.inputs[0]] if layer.type == "Split" else blob
    return origin


def read_blobs(network: ParamFile) -> tuple[str, ...]:
    """Return the blobs that layers which can be int8 read, each once, in the order of the file, without copies."""
    origin = trace_blobs(network)
    return tuple(dict.fromkeys(origin[layer.inputs[0]] for layer in network.layers if can_be_int8(layer)))
