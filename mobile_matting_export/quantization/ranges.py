"""The range of values that a tensor's 8 bits stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["percentile", "minmax", "mse", "kl"]

METHODS: tuple[Method, ...] = get_args(Method)
"""Ways to choose a range from a histogram, the default first."""


@dataclass(frozen=True)
class Range:
    """Lowest and highest value that is kept; what lies outside is clipped. ``low <= 0 <= high``: zero is exact."""

    low: float
    high: float

    @property
    def threshold(self) -> float:
        """The larger magnitude, for formats whose int8 is symmetric."""
        return max(-self.low, self.high)
