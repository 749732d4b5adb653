"""Finds what rounding adds to each output on average, so that the bias can take it back.

Rounded weights and clipped, rounded inputs shift the mean of a layer's outputs, and a shifted mean moves whole areas
of a matte (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, 4.2). With
W and x as they are, and W' and x' as int8 has them, output o is shifted by

    sum over i of (sum over k of W'[o, i, k]) mean(x'[i]) - (sum over k of W[o, i, k]) mean(x[i])

for input channels i and kernel positions k, borders aside. The means are those of float frames: what a layer gives
back depends on no other layer's being int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.list_int8_layers import can_be_int8, trace_blobs
from mobile_matting_export.formats.ncnn.observe_blobs import observe
from mobile_matting_export.formats.ncnn.param import Layer
from mobile_matting_export.formats.ncnn.quantize_int8 import channels, input_scale, to_int8, weight_scales
from mobile_matting_export.formats.ncnn.walk_weights import walk_weights
from mobile_matting_export.quantization.ranges import Range


def correct_biases(
    files: tuple[Path, ...], ranges: Mapping[str, Range], frames: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return layer -> float32, one per output channel: what ``quantize`` is to add to its bias.

    Args:
        files: ``.param`` and ``.bin`` in fp32.
        ranges: blob -> range of its values, those that ``quantize`` gets.
        frames: input name -> float32 1xCxHxW, in which every layer is met once at least.

    Raises:
        UsageError: a file is missing or damaged, or a frame does not fit the network.
        ConversionError: there is no frame, a blob has no range, or a weight cannot be read.
    """
    param, weights_path = net.split_files(files)
    network = net.read_network(param)
    origin = trace_blobs(network)
    means = _channel_means(files, ranges, frames)
    shifts = {}
    for stored in walk_weights(network, weights_path.read_bytes()):
        layer = stored.layer
        if stored.tag is None or not can_be_int8(layer):
            continue
        exact, rounded = means[origin[layer.inputs[0]]]
        weights = stored.values().reshape(channels(layer), -1)
        scales = weight_scales(layer, stored.values())[:, np.newaxis]
        coarse = to_int8(weights * scales) / scales.astype(np.float64)
        shifts[layer.name] = (_mean_output(layer, weights, exact) - _mean_output(layer, coarse, rounded)).astype(
            np.float32
        )
    return shifts


def _channel_means(
    files: tuple[Path, ...], ranges: Mapping[str, Range], frames: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Blob -> means of its channels over all frames, float64: of its values, and of what int8 makes of them."""
    if not frames:
        raise ConversionError("there is no frame to correct biases with; calibrate with one picture at least")
    sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for blob, values in observe(files, frames):
        if blob not in ranges:
            raise ConversionError(f"there is no range of blob {blob!r}; calibrate it")
        scale = input_scale(ranges[blob])
        # a blob of one axis is a list of channels
        flat = values.reshape(len(values), -1)
        found = flat.mean(1, dtype=np.float64), to_int8(flat * np.float32(scale)).mean(1, dtype=np.float64) / scale
        before = sums.get(blob, (0.0, 0.0))
        sums[blob] = before[0] + found[0], before[1] + found[1]
    return {blob: (exact / len(frames), rounded / len(frames)) for blob, (exact, rounded) in sums.items()}


def _mean_output(layer: Layer, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Mean of each output before the bias. ``weights`` are outputs (depthwise: groups) x the rest."""
    if layer.type == "ConvolutionDepthWise":
        groups, outputs = channels(layer), layer.setting(0)
        kernels = weights.reshape(groups, outputs // groups, len(means) // groups, -1).sum(3, dtype=np.float64)
        return np.einsum("goi,gi->go", kernels, means.reshape(groups, -1)).ravel()
    if layer.type == "InnerProduct" and weights.shape[1] != len(means):
        means = np.repeat(means, weights.shape[1] // len(means))  # it flattens what it reads
    kernels = weights.reshape(len(weights), len(means), -1).sum(2, dtype=np.float64)
    return kernels @ means
