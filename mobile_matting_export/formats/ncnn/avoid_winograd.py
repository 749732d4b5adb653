"""Switches Winograd's algorithm off for convolutions where it moves more numbers than it saves products.

ncnn computes 3x3 convolutions of stride 1 by transforming tiles of the whole map, so that 9 products become about 2.
Few channels have few products, and a large map's tiles do not fit the caches: they are written to memory
and read again. ``31=64`` in the ``.param`` takes it from one layer (Tencent/ncnn, feature mask).
Measured one x86 thread, AVX-512, time without over time with it, 2 to 16 outputs: at 256x256 0.33 to 1.0 for 11 to 16
inputs, but 2.0 for 24; at 128x128 0.46 to 1.4 for 11 to 16. Whole networks: segmatting 0.69 (0.68 to 0.71).
Not measured on phones, whose caches are smaller. For CPUs: a GPU's kernels are others.
"""

from __future__ import annotations

from pathlib import Path

from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.measure_shapes import measure_shapes
from mobile_matting_export.formats.ncnn.param import FEATURE_MASK, NO_WINOGRAD, Layer, read
from mobile_matting_export.formats.ncnn.walk_weights import INT8_TERM

_MOST_CHANNELS = 16  # of the input and of the output
_LEAST_PIXELS = 200 * 200  # measured at 256x256; at 128x128 it depends on the channels


def avoid_winograd(files: tuple[Path, ...]) -> None:
    """Change the ``.param`` among an artifact's files in place; it stays as it is where nothing is to be gained.

    Raises:
        UsageError: ncnn does not load the files.
    """
    param, weights = net.split_files(files)
    network = read(param)
    if not any(_may_use_it(layer) for layer in network.layers):
        return
    inputs = {layer.outputs[0]: tuple(layer.setting(key) for key in (2, 1, 0)) for layer in network.inputs}
    shapes = measure_shapes(param, weights, inputs)

    def without(layer: Layer) -> Layer:
        if not _may_use_it(layer):
            return layer
        (channels, *_), (outputs, height, width) = shapes[layer.inputs[0]], shapes[layer.outputs[0]]
        is_large = height * width >= _LEAST_PIXELS and max(channels, outputs) <= _MOST_CHANNELS
        return layer.with_features_off(NO_WINOGRAD) if is_large else layer

    changed = network.map(without)
    if changed != network:
        param.write_text(changed.to_text(), encoding="ascii")


def describe_avoided(files: tuple[Path, ...]) -> tuple[str, ...]:
    """A sentence on the float convolutions of an artifact's ``.param`` that have it off; none where there are none.

    Raises:
        UsageError: the files are missing, or no ncnn network.
    """
    network = net.read_network(net.split_files(files)[0])
    without = [layer.name for layer in network.layers if _is_without(layer)]
    if not without:
        return ()
    return (
        f"computed without Winograd's algorithm: {', '.join(without)} (3x3, at most {_MOST_CHANNELS} channels, a large "
        "map; chosen by timings on x86, not timed on phones)",
    )


def _is_without(layer: Layer) -> bool:
    # int8 is always without it, for another reason
    return _may_use_it(layer) and not layer.setting(INT8_TERM) and bool(layer.setting(FEATURE_MASK) & NO_WINOGRAD)


def _may_use_it(layer: Layer) -> bool:
    """Whether this is a 3x3 convolution of stride 1, undilated; what is not said of the height is as of the width."""
    if layer.type != "Convolution":
        return False
    kernel, stride, dilation = layer.setting(1), layer.setting(3, 1), layer.setting(2, 1)
    square = layer.setting(11, kernel) == kernel and layer.setting(13, stride) == stride
    return square and (kernel, stride, dilation) == (3, 1, 1)
