"""Stored numbers are what the runtime's own QUANTIZE makes, and come back within half a step."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_matting_export.formats.tflite.eight_bit import EightBit, find_eight_bit

SIGNED = EightBit(np.dtype(np.int8), 0.25, -3)
UNSIGNED = EightBit(np.dtype(np.uint8), 1 / 255, 0)


def test_numbers_are_rounded_half_to_even_and_clipped() -> None:
    values = np.array([0.0, 0.125, 0.375, -0.125, 0.13, 1000.0, -1000.0])

    assert SIGNED.store(values).tolist() == [-3, -3, -1, -3, -2, 127, -128]
    assert SIGNED.store(values).dtype == np.int8


def test_what_is_stored_comes_back_within_half_a_step() -> None:
    alpha = np.random.default_rng(0).random((1, 4, 4, 1), np.float32)

    assert np.abs(UNSIGNED.restore(UNSIGNED.store(alpha)) - alpha).max() <= 0.5 / 255 + 1e-7
    ends = UNSIGNED.restore(np.array([0, 255], np.uint8))
    assert (ends.dtype, ends.tolist()) == (np.float32, [0.0, 1.0])


@pytest.mark.parametrize(
    ("dtype", "quantization", "found"),
    [
        (np.int8, (0.5, 4), True),
        (np.uint8, (0.5, 4), True),
        (np.uint8, (1.0, 0), False),  # pixels as bytes
        (np.uint8, (0.0, 0), False),
        (np.float32, (0.0, 0), False),
        (np.int32, (0.5, 0), False),
    ],
)
def test_8_bits_with_a_scale_are_found(dtype: type, quantization: tuple[float, int], found: bool) -> None:
    assert bool(find_eight_bit({"x": {"dtype": dtype, "quantization": quantization}})) == found
