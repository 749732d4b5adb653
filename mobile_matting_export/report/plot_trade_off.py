"""Where plans lie in a plot of error over cost: plain numbers that a template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44

# errors of plans that are nearly all float say nothing: the axis ends at this share of the limit
_FLOOR = 0.1
# over so much a tick at every 2 and 5 would leave no room for words
_MANY = 1000


@dataclass(frozen=True)
class Mark:
    """One plan: its cost, its error, whether it holds the budget, whether it is the one taken, and its words."""

    x: float
    y: float
    holds: bool
    chosen: bool
    told: str


def plot_trade_off(
    marks: Sequence[Mark], limit: float | None, words: Callable[[float], str], edge: float | None = None
) -> dict[str, Any]:
    """Geometry of one plot, y logarithmic, in a box of ``WIDTH`` x ``HEIGHT``.

    Args:
        marks: the plans, at least one.
        limit: a line across; None for none.
        words: writes a value of the x axis.
        edge: the largest x that is drawn, with a line there; None: that of the marks.
    """
    right = max(mark.x for mark in marks) if edge is None else max(edge, *(mark.x for mark in marks))
    right = right * 1.04 or 1.0
    errors = [mark.y for mark in marks] + ([] if limit is None else [limit])
    top = max(max(errors), 1e-12) * 1.6
    floor = (limit if limit is not None else max(errors)) * _FLOOR or 1e-12
    bottom = max(min(errors) / 1.6, floor)

    across, up = make_axes(right, bottom, top)
    # the one taken last: it lies above the others
    drawn = sorted(marks, key=lambda mark: (mark.chosen, mark.holds))
    return {
        "marks": [
            {"x": across(m.x), "y": up(m.y), "holds": m.holds, "chosen": m.chosen, "told": m.told} for m in drawn
        ],
        "across": [{"x": across(value), "words": words(value)} for value in even_ticks(right)],
        "up": [{"y": up(value), "words": f"{value:g}"} for value in log_ticks(bottom, top)],
        "limit": None if limit is None else up(limit),
        "edge": None if edge is None else across(edge),
        "cut": any(mark.y < bottom for mark in marks),
    }


def make_axes(right: float, bottom: float, top: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Where a value lies across, from 0 to ``right``, and up, logarithmic from ``bottom`` to ``top``."""

    def across(x: float) -> float:
        return round(LEFT + x / right * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        share = math.log(max(y, bottom) / bottom) / math.log(top / bottom)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    return across, up


def even_ticks(largest: float, most: int = 6) -> list[float]:
    """0 and multiples of 1, 2 or 5 times a power of ten up to ``largest``, at most ``most`` of them."""
    power = 10.0 ** math.floor(math.log10(largest / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if largest / (power * factor) < most)
    return [number * step for number in range(int(largest / step) + 1)]


def log_ticks(smallest: float, largest: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the two; over more than three powers these alone."""
    powers = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    factors = (1,) if largest / smallest > _MANY else (1, 2, 5)
    values = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [value for value in values if smallest <= value <= largest]
