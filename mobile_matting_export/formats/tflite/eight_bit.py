"""Real numbers to the 8 bits of a quantized TFLite tensor and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class EightBit:
    """How a tensor stores numbers: real = (stored - ``zero_point``) * ``scale``; ``dtype`` is int8 or uint8."""

    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    def store(self, values: np.ndarray) -> np.ndarray:
        """Real numbers, any shape, as ``dtype``: rounded half to even as XNNPACK's QUANTIZE does, and clipped."""
        limits = np.iinfo(self.dtype)
        # the kernel multiplies by the reciprocal; a division may fall on the other side of a half
        steps = np.asarray(values, np.float32) * (np.float32(1) / np.float32(self.scale))
        return np.clip(np.rint(steps) + self.zero_point, limits.min, limits.max).astype(self.dtype)

    def restore(self, stored: np.ndarray) -> np.ndarray:
        """The float32 that stored numbers stand for."""
        return np.asarray((stored.astype(np.int32) - self.zero_point) * np.float32(self.scale), np.float32)


def find_eight_bit(details: Mapping[Key, Mapping[str, Any]]) -> dict[Key, EightBit]:
    """The 8-bit tensors with a scale among the interpreter's ``details``, by their keys.

    Pixels as bytes are not among them: uint8 with the numbers' own meaning, scale 1 and zero point 0.
    """
    found = {}
    for name, entry in details.items():
        dtype, (scale, zero_point) = np.dtype(entry["dtype"]), entry["quantization"]
        plain_bytes = dtype == np.uint8 and (scale, zero_point) == (1.0, 0)
        if dtype in (np.int8, np.uint8) and scale and not plain_bytes:
            found[name] = EightBit(dtype, float(scale), int(zero_point))
    return found
