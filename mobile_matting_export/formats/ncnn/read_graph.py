"""Reads a ``.param`` for inspection: layers, blobs, multiply-accumulates; shapes where the input size is known."""

from __future__ import annotations

import math
from pathlib import Path

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.measure_shapes import measure_shapes
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, ParamSyntaxError, read
from mobile_matting_export.inspection import Graph, Op, Tensor

Shape = tuple[int, ...]

# key of the number of weights, per layer type
_WEIGHT_COUNT = {
    "Convolution": 6,
    "ConvolutionDepthWise": 6,
    "Deconvolution": 6,
    "DeconvolutionDepthWise": 6,
    "InnerProduct": 2,
}
# keys of the two convolutions
_OUTPUTS, _WIDTH, _HEIGHT, _WEIGHTS, _GROUP = 0, 1, 11, 6, 7


def read_graph(param: Path, weights: Path | None, size: tuple[int, int] | None) -> Graph:
    """Return the network of ``param``; ``Input`` layers are its inputs, not operations.

    Blobs are channels x height x width, float32 as the CPU computes them. Their shapes are those that ncnn
    itself makes: it runs the network once, on zeros.

    Args:
        param: the ``.param`` text.
        weights: the ``.bin``, None where there is none: then shapes stay unknown.
        size: height and width of every input whose size the file does not state.

    Raises:
        UsageError: a file is missing, damaged, or no ncnn network.
    """
    try:
        network = read(param)
    except OSError as error:
        raise UsageError(f"cannot read ncnn file {param}: {error.strerror or error}; check the path") from error
    except ParamSyntaxError as error:
        raise UsageError(f"{param} is no ncnn network: {error}; convert again") from error
    inputs = {layer.outputs[0]: _input_shape(layer, network, size) for layer in network.inputs}
    notes: list[str] = []
    shapes: dict[str, Shape] = {}
    known = {name: shape for name, shape in inputs.items() if shape is not None}
    if weights is None:
        notes.append(f"there is no {param.with_suffix('.bin').name} beside it: shapes, MACs and memory stay unknown")
    elif len(known) < len(inputs):
        notes.append("the file does not state the size of its input: with --size HxW shapes, MACs and memory are known")
    else:
        shapes = measure_shapes(param, weights, known)
    names = [blob for layer in network.layers for blob in layer.outputs]
    numbers = {name: number for number, name in enumerate(names)}
    layers = [layer for layer in network.layers if layer.type != "Input"]
    return Graph(
        format="ncnn",
        tensors=tuple(Tensor(name, shapes.get(name), "FLOAT32") for name in names),
        ops=tuple(_op(number, layer, numbers, shapes) for number, layer in enumerate(layers)),
        inputs=tuple(numbers[name] for name in inputs),
        outputs=tuple(numbers[name] for name in network.outputs),
        notes=tuple(notes),
    )


def _op(number: int, layer: Layer, numbers: dict[str, int], shapes: dict[str, Shape]) -> Op:
    return Op(
        number=number,
        kind=layer.type,
        version=1,
        inputs=tuple(numbers[blob] for blob in layer.inputs),
        outputs=tuple(numbers[blob] for blob in layer.outputs),
        options={str(key): value for key, value in layer.settings.items()},
        macs=_macs(layer, shapes),
    )


def _macs(layer: Layer, shapes: dict[str, Shape]) -> int | None:
    if layer.type not in _WEIGHT_COUNT:
        return 0
    weights = layer.setting(_WEIGHT_COUNT[layer.type])
    if layer.type == "InnerProduct":
        return weights
    # a convolution's every output pixel meets the whole kernel, a deconvolution's every input pixel
    blob = layer.inputs[0] if layer.type.startswith("Deconvolution") else layer.outputs[0]
    return weights * math.prod(shapes[blob][-2:]) if blob in shapes else None


def _input_shape(layer: Layer, network: ParamFile, size: tuple[int, int] | None) -> Shape | None:
    width, height, channels = (layer.setting(key) for key in (0, 1, 2))
    if width and height and channels:
        return channels, height, width
    wanted = _channels(layer.outputs[0], network)
    return None if size is None or wanted is None else (wanted, *size)


def _channels(blob: str, network: ParamFile) -> int | None:
    """The channels that the first convolution behind ``blob`` reads."""
    followed = {blob}
    for layer in network.layers:
        if not followed & set(layer.inputs):
            continue
        if layer.type == "Convolution":
            kernel = layer.setting(_WIDTH) * layer.setting(_HEIGHT, layer.setting(_WIDTH))
            return layer.setting(_WEIGHTS) // max(1, layer.setting(_OUTPUTS) * kernel)
        if layer.type == "ConvolutionDepthWise":
            return layer.setting(_GROUP)
        followed.update(layer.outputs)
    return None
