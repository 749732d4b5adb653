"""Writes int8: convolutions, depthwise convolutions and inner products in 8 bits, the rest as the fp16 files have it.

A layer with a ``8=`` setting computes in int8; one without stays float, and ncnn converts in between. Of such a
layer the ``.bin`` holds int8 weights behind their tag, the bias in float32, a scale for each output channel
(depthwise: for each group), the input's scale and, where the output is int8 too (100 more in ``8=``), the
output's. A stored number is ``round(value * scale)``, half away from zero, clamped to +-127
(Tencent/ncnn, ``tools/quantize/ncnn2int8.cpp``, ``src/layer/quantize.cpp``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.list_int8_layers import can_be_int8, trace_blobs
from mobile_matting_export.formats.ncnn.lower import keep_box_filters_exact
from mobile_matting_export.formats.ncnn.param import NO_WINOGRAD, Layer, ParamFile
from mobile_matting_export.formats.ncnn.quantize import half_if_large, require_float32
from mobile_matting_export.formats.ncnn.walk_weights import INT8_OUTPUT, INT8_TAG, INT8_TERM, Stored, walk_weights
from mobile_matting_export.formats.ncnn.write_files import write_files
from mobile_matting_export.quantization.ranges import Range

LEVELS = 127
"""Largest int8 number; -128 is not used, so that ranges are symmetric."""


@dataclass(frozen=True)
class Scales:
    """What multiplies float numbers before they are rounded: one number per weight channel, one for the input."""

    weights: np.ndarray
    input: float


def quantize(
    files: tuple[Path, ...],
    ranges: Mapping[str, Range],
    keep_float: frozenset[str],
    folder: Path,
    stem: str,
    bias_shift: Mapping[str, np.ndarray] | None = None,
) -> tuple[Path, ...]:
    """Write ``<stem>.ncnn.param`` and ``<stem>.ncnn.bin`` in int8 into ``folder`` and return them.

    The same inputs give the same bytes. What was written is read again: exactly the planned layers are int8, and
    ncnn computes finite numbers.

    Args:
        files: ``.param`` and ``.bin`` in fp32.
        ranges: blob -> range of its values; blobs by the names of ``observe``.
        keep_float: names of layers that stay float, stored as in an fp16 file.
        folder: an existing folder.
        stem: of the files' names.
        bias_shift: layer -> what is added to the bias of each of its outputs, see ``correct_biases``.

    Raises:
        UsageError: ``keep_float`` or ``bias_shift`` names a layer that is not there or cannot be int8, or a file is
            missing or damaged.
        ConversionError: a blob has no range, a weight cannot be read, or ncnn does not run the result.
    """
    param, weights_path = net.split_files(files)
    network, weights = net.read_network(param), weights_path.read_bytes()
    candidates = {layer.name: layer for layer in network.layers if can_be_int8(layer)}
    _require_known(keep_float, candidates, "kept in float")
    _require_known(frozenset(bias_shift or ()), candidates, "corrected")
    chosen = {name: layer for name, layer in candidates.items() if name not in keep_float}
    origin = trace_blobs(network)
    scales = {}
    for stored in walk_weights(network, weights):
        layer = stored.layer
        if stored.tag is None or layer.name not in chosen:
            continue
        require_float32(stored)
        blob = origin[layer.inputs[0]]
        if blob not in ranges:
            raise ConversionError(f"there is no range of blob {blob!r}, which layer {layer.name!r} reads; calibrate it")
        scales[layer.name] = Scales(weight_scales(layer, stored.values()), input_scale(ranges[blob]))
    return write_int8(files, scales, folder, stem, bias_shift)


def write_int8(
    files: tuple[Path, ...],
    scales: Mapping[str, Scales],
    folder: Path,
    stem: str,
    bias_shift: Mapping[str, np.ndarray] | None = None,
) -> tuple[Path, ...]:
    """Write the network with exactly the layers of ``scales`` (by name) in int8, verified; as ``quantize`` does.

    With the scales of ncnn's own tool the ``.bin`` is that of the tool, to the byte.
    """
    param, weights_path = net.split_files(files)
    network = net.read_network(param)
    outputs = _int8_outputs(network, scales)
    shifts = bias_shift or {}
    layers: dict[str, Layer] = {}
    content = []
    for name, group in groupby(walk_weights(network, weights_path.read_bytes()), lambda stored: stored.layer.name):
        blocks = list(group)
        if name not in scales:
            content += [half_if_large(stored) for stored in blocks]
            continue
        layers[name], data = _int8_layer(blocks, scales[name], outputs.get(name), shifts.get(name))
        content.append(data)
    quantized = keep_box_filters_exact(network.map(lambda layer: layers.get(layer.name, layer)))
    written = write_files(quantized, b"".join(content), folder, stem)
    _require_planned(written[0], frozenset(scales))
    return written


def weight_scales(layer: Layer, weights: np.ndarray) -> np.ndarray:
    """Return the scale of each output channel (depthwise: group) of a layer's flat float32 ``weights``, float32.

    A channel that is all zero gets 1.
    """
    peaks = np.abs(weights.reshape(channels(layer), -1)).max(1).astype(np.float64)
    return np.where(peaks > 0, LEVELS / np.where(peaks > 0, peaks, 1), 1).astype(np.float32)


def input_scale(range_: Range) -> float:
    """Return the scale of a blob; 1 where the blob is always zero."""
    return LEVELS / range_.threshold if range_.threshold > 0 else 1.0


def to_int8(values: np.ndarray) -> np.ndarray:
    """Return scaled float32 ``values`` as ncnn rounds them."""
    # in float64: just below a half, the sum in float32 would round up
    away = np.trunc(values.astype(np.float64) + np.copysign(0.5, values))
    return np.clip(away, -LEVELS, LEVELS).astype(np.int8)


def _require_known(names: frozenset[str], candidates: Mapping[str, Layer], what: str) -> None:
    unknown = sorted(names - candidates.keys())
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)} cannot be {what}: the network has no layer of that name that ncnn computes in int8; "
            f"it has {', '.join(candidates) or 'none'}"
        )


def channels(layer: Layer) -> int:
    """Return the number of weight scales: output channels, for a depthwise convolution groups."""
    return layer.setting(7, 1) if layer.type == "ConvolutionDepthWise" else layer.setting(0)


def _int8_outputs(network: ParamFile, scales: Mapping[str, Scales]) -> dict[str, float]:
    """Layer -> scale of its output, where nothing but int8 convolutions reads it, so that it never becomes float."""
    origin = trace_blobs(network)
    readers: dict[str, list[Layer]] = {}
    for layer in network.layers:
        if layer.type != "Split":
            for blob in layer.inputs:
                readers.setdefault(origin[blob], []).append(layer)
    results = {origin[blob] for blob in network.outputs}
    outputs = {}
    for layer in network.layers:
        if layer.outputs[0] in results:
            continue  # a state that a layer reads, too
        following = readers.get(layer.outputs[0], [])
        convolutions = all(reader.name in scales and reader.type != "InnerProduct" for reader in following)
        if layer.name in scales and layer.type != "InnerProduct" and following and convolutions:
            wanted = {scales[reader.name].input for reader in following}
            if len(wanted) == 1:
                outputs[layer.name] = wanted.pop()
    return outputs


def _int8_layer(
    blocks: list[Stored], scales: Scales, output: float | None, shift: np.ndarray | None
) -> tuple[Layer, bytes]:
    layer = blocks[0].layer
    require_float32(blocks[0])
    weights = blocks[0].values().reshape(channels(layer), -1)
    numbers = to_int8(weights * scales.weights[:, None]).tobytes()
    floats = [stored.values() for stored in blocks[1:]]
    term = 1 if layer.type == "ConvolutionDepthWise" else 2
    layer = layer.with_setting(INT8_TERM, term if output is None else term + INT8_OUTPUT)
    if layer.type != "InnerProduct" and _is_3x3(layer):
        # Winograd sums int8 weights before it multiplies and can overflow its 16 bits. (The official tool gives them
        # 6 bits instead, which is coarser, and overflows all the same on a checkerboard.)
        layer = layer.with_features_off(NO_WINOGRAD)
    if shift is not None:
        if not floats:
            layer = layer.with_setting(1 if layer.type == "InnerProduct" else 5, 1)
        floats = [(floats[0] if floats else np.float32(0)) + shift]
    floats += [scales.weights, np.array([scales.input])]
    if output is not None:
        floats.append(np.array([output]))
    data = struct.pack("<I", INT8_TAG) + numbers + bytes(-len(numbers) % 4)
    return layer, data + b"".join(np.asarray(values, "<f4").tobytes() for values in floats)


def _is_3x3(layer: Layer) -> bool:
    return (layer.setting(1), layer.setting(11, layer.setting(1))) == (3, 3)


def _require_planned(param: Path, planned: frozenset[str]) -> None:
    found = {layer.name for layer in net.read_network(param).layers if layer.setting(INT8_TERM)}
    if found != planned:
        wrong = ", ".join(sorted(found ^ planned))
        raise ConversionError(f"{param} was written with other int8 layers than planned ({wrong}); report this")
