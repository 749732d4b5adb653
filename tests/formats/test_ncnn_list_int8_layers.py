"""Which layers can be int8, with their costs and modules; copies of a blob count as the blob."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.formats.ncnn.list_int8_layers import (
    can_be_int8,
    list_int8_layers,
    list_slower_layers,
    read_blobs,
    trace_blobs,
)
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, read
from mobile_matting_export.quantization.layer import QuantizableLayer


@pytest.mark.toolchain
def test_layers_come_in_the_order_of_the_file_with_their_costs(gated_files: tuple[Path, ...]) -> None:
    pixels = 32 * 24
    assert list_int8_layers(gated_files, {"conv_7": "net.wide"}) == (
        QuantizableLayer("convrelu_0", "", "Convolution", pixels * 432, 4 * 432, 16 * pixels),
        QuantizableLayer("convdwrelu_0", "", "ConvolutionDepthWise", pixels * 144, 4 * 144, 16 * pixels),
        QuantizableLayer("conv_7", "net.wide", "Convolution", pixels * 1152, 4 * 1152, 72 * pixels),
        QuantizableLayer("fcsigmoid_0", "", "InnerProduct", 72 * 72, 4 * 72 * 72, 72),
        QuantizableLayer("convsigmoid_1", "", "Convolution", pixels * 4, 4 * 4, pixels),
    )


@pytest.mark.toolchain
def test_depthwise_layers_gain_no_time(gated_files: tuple[Path, ...]) -> None:
    assert list_slower_layers(gated_files) == {"convdwrelu_0"}


@pytest.mark.toolchain
def test_blobs_are_those_that_these_layers_read(gated_files: tuple[Path, ...]) -> None:
    network = read(gated_files[0])
    by_name = {layer.name: layer for layer in network.layers}
    first, depth, wide, fully, head = (
        by_name[name] for name in ("convrelu_0", "convdwrelu_0", "conv_7", "fcsigmoid_0", "convsigmoid_1")
    )
    assert read_blobs(network) == (
        *("image", first.outputs[0], depth.outputs[0]),
        *(fully.inputs[0], head.inputs[0]),
    )
    assert wide.inputs == depth.outputs


def layer(type_: str, **settings: int) -> Layer:
    return Layer(type_, "one", ("a",), ("b",), {int(key[1:]): str(value) for key, value in settings.items()})


@pytest.mark.parametrize(
    ("candidate", "wanted"),
    [
        (layer("Convolution", _1=1), True),
        (layer("Convolution", _1=3, _19=1), False),  # its weights are another layer's output
        (layer("ConvolutionDepthWise", _1=3), True),
        (layer("ConvolutionDepthWise", _1=1, _11=3), True),
        (layer("ConvolutionDepthWise", _1=1, _11=1), False),
        (layer("ConvolutionDepthWise", _1=1), False),
        (layer("InnerProduct"), True),
        (layer("Deconvolution", _1=3), False),
        (layer("ReLU"), False),
    ],
)
def test_layer_can_be_int8(candidate: Layer, wanted: bool) -> None:
    assert can_be_int8(candidate) == wanted


def test_copies_of_copies_are_traced_to_the_first() -> None:
    network = ParamFile(
        (
            Layer("Input", "in0", (), ("image",)),
            Layer("Split", "one", ("image",), ("a", "b")),
            Layer("Split", "two", ("b",), ("c", "d")),
            Layer("ReLU", "relu", ("d",), ("e",)),
        )
    )
    assert trace_blobs(network) == {"image": "image", "a": "image", "b": "image", "c": "image", "d": "image", "e": "e"}
