"""A quality budget: how far the mattes of a quantized network may be from those of the float one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.score import Score

DEFAULT = "mad_band=0.01"

MARGINS = {"mad_band": 0.9, "mad": 0.9, "worst_band": 0.7, "max_abs": 0.7, "psnr": 0.7}
"""Measure -> the share of its limit at which the search stops: pictures that it never saw are worse.

Means move little from some pictures to others, what the worst picture does moves much.
"""


@dataclass(frozen=True)
class Budget:
    """``limits``: measure of ``Score`` -> largest value that is allowed; for ``psnr``, in dB, the smallest."""

    limits: Mapping[str, float]

    def use(self, score: Score) -> float:
        """How much of the budget is used: 1 is all of it, above it is missed. The measure nearest to its limit counts.

        dB are taken as the ratio of root mean square errors.
        """
        return max(self._uses(score).values())

    def strain(self, score: Score) -> float:
        """How far the search is from where it may stop: at most 1 there. See ``MARGINS``."""
        return max(use / MARGINS[name] for name, use in self._uses(score).items())

    def _uses(self, score: Score) -> dict[str, float]:
        return {
            name: 10 ** ((limit - score.psnr) / 20) if name == "psnr" else getattr(score, name) / limit
            for name, limit in self.limits.items()
        }

    def __str__(self) -> str:
        return ",".join(f"{name}={limit:g}" for name, limit in self.limits.items())


def parse_budget(text: str) -> Budget:
    """``mad_band=0.01,psnr=30`` as a budget.

    Raises:
        UsageError: an unknown measure, or no positive number; says what is known.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if name not in MARGINS or not equals or not 0 < number < float("inf"):
            raise UsageError(
                f"cannot read the quality budget {part.strip()!r}: write MEASURE=NUMBER, several with commas, such as "
                f"mad_band=0.01,psnr=30 (psnr is the least, all others are the most); measures are {', '.join(MARGINS)}"
            )
        if name in limits:
            raise UsageError(f"the quality budget {text!r} gives {name} twice; give one limit for each measure")
        limits[name] = number
    return Budget(limits)
