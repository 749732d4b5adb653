"""Pixels held as floats become the bytes that some files take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobile_matting_export.errors import UsageError


def to_bytes(name: str, image: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """The same numbers as uint8, in the same shape.

    Args:
        name: of the input, for the message.
        image: whole numbers from 0 to 255, of any type.

    Raises:
        UsageError: other numbers, such as those of a normalized picture, which bytes would cut off.
    """
    pixels = np.asarray(image)
    with np.errstate(invalid="ignore"):  # what does not fit is seen in the comparison
        narrowed = np.ascontiguousarray(pixels.astype(np.uint8))
    if not np.array_equal(narrowed, pixels):
        raise UsageError(
            f"input {name} takes pixels as bytes: give whole numbers from 0 to 255, not "
            f"{float(pixels.min()):.3g} to {float(pixels.max()):.3g}; the file normalizes them itself"
        )
    return narrowed
