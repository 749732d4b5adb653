"""Pixels as floats become bytes, and what bytes cannot hold is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.byte_image import to_bytes


def test_whole_pixels_keep_their_values_and_shape() -> None:
    pixels = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)
    narrowed = to_bytes("image", pixels)
    assert narrowed.dtype == np.uint8 and narrowed.flags.c_contiguous
    assert np.array_equal(narrowed, pixels)
    assert to_bytes("image", narrowed[:, :, ::2]).shape == (1, 1, 8, 16)


@pytest.mark.parametrize("value", [-1.0, 255.5, 256.0, 0.25, np.nan, np.inf])
def test_what_a_byte_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match="input image takes pixels as bytes: give whole numbers"):
        to_bytes("image", np.array([3.0, value], np.float32))
