"""Blocks of a ``.bin``: what each storage holds, and which scales an int8 layer brings."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from mobile_matting_export.formats.ncnn.param import Layer, ParamFile
from mobile_matting_export.formats.ncnn.walk_weights import (
    CODEBOOK_TAG,
    FLOAT16_TAG,
    FLOAT32_TAG,
    INT8_TAG,
    RAW_FLOAT32_TAG,
    walk_weights,
    weight_blocks,
)

VALUES = np.array([1.0, -2.0, 0.5, 3.0, -4.0], "<f4")
TABLE = np.linspace(-4, 4, 256, dtype="<f4")

STORAGES = {
    "float32": (FLOAT32_TAG, VALUES.tobytes(), VALUES),
    "raw float32": (RAW_FLOAT32_TAG, VALUES.tobytes(), VALUES),
    "float16": (FLOAT16_TAG, VALUES.astype("<f2").tobytes() + b"??", VALUES),
    "int8": (INT8_TAG, bytes([1, 254, 3, 127, 129]) + b"???", np.array([1, -2, 3, 127, -127], np.int8)),
    "codebook": (CODEBOOK_TAG, TABLE.tobytes() + bytes([0, 255, 7, 7, 128]) + b"???", TABLE[[0, 255, 7, 7, 128]]),
}


def convolution(type_: str = "Convolution", **settings: int) -> Layer:
    given = {"_0": 2, "_5": 1, "_6": 5} | settings
    return Layer(type_, "conv", ("in0",), ("out0",), {int(key[1:]): str(value) for key, value in given.items()})


@pytest.mark.parametrize("storage", STORAGES)
def test_values_and_bytes_of_every_storage(storage: str) -> None:
    tag, data, expected = STORAGES[storage]
    bias = np.array([0.1, 0.2], "<f4")
    content = struct.pack("<I", tag) + data + bias.tobytes()
    weight, behind = walk_weights(ParamFile((convolution(),)), content)
    np.testing.assert_array_equal(weight.values(), expected)
    assert weight.values().dtype == expected.dtype
    np.testing.assert_array_equal(behind.values(), bias)
    assert (weight.tag, behind.tag) == (tag, None)
    assert weight.raw + behind.raw == content


@pytest.mark.parametrize(
    ("layer", "counts"),
    [
        (convolution(_8=2), [5, 2, 2, 1]),
        (convolution(_8=102), [5, 2, 2, 1, 1]),
        (convolution(_8=2, _5=0), [5, 2, 1]),
        (convolution("ConvolutionDepthWise", _0=6, _7=3, _8=1), [5, 6, 3, 1]),
        (convolution("ConvolutionDepthWise", _0=6, _7=3, _8=101), [5, 6, 3, 1, 1]),
        (convolution("ConvolutionDepthWise", _0=6, _7=3, _8=2), [5, 6, 1, 1]),
        (Layer("InnerProduct", "fc", ("a",), ("b",), {0: "3", 1: "1", 2: "12", 8: "2"}), [12, 3, 3, 1]),
        (Layer("InnerProduct", "fc", ("a",), ("b",), {0: "3", 1: "1", 2: "12"}), [12, 3]),
    ],
)
def test_int8_layer_brings_scales_of_weights_input_and_output(layer: Layer, counts: list[int]) -> None:
    assert [block.count for block in weight_blocks(layer)] == counts
    assert [block.tagged for block in weight_blocks(layer)] == [True] + [False] * (len(counts) - 1)
