"""Choose the range that 8 bits stand for from the histogram of a tensor.

Four ways, all of which keep zero exact:

- ``percentile``: the narrowest range that holds 99.99 % of the values other than zero.
- ``minmax``: every value; one outlier coarsens all others.
- ``mse``: least expected squared error, clipping and rounding together.
- ``kl``: the rounded distribution nearest to the clipped one (Kullback-Leibler, as in Migacz, "8-bit Inference with
  TensorRT", 2017, and ncnn's ncnn2table). Unlike ncnn, both distributions are normalized, what is added so that
  nothing is divided by zero is one value in all, not 1e-4 of them for every bin, and no more than 0.1 % is cut: the
  divergence does not see how far a cut value is, and clipped outputs of ReLU6 in mmnet to a third of their range, with
  20 to 30 dB less signal to noise than ``mse``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobile_matting_export.quantization.histogram import BINS, Histogram
from mobile_matting_export.quantization.ranges import Method, Range

# the share of values that percentile may cut
_CUT = 1e-4
# the share of values that kl may cut
_CUT_BY_DIVERGENCE = 1e-3
# steps between the lowest and highest of the integers: -128..127; and from zero to the highest of -127..127
_STEPS = 255
_HALF_STEPS = 127
# of the whole range, the widest first: equal errors leave it as it is. The error is flat about its minimum, so steps
# of 4 % lose nothing; on mmnet and ldn_fb no end that mse chose was below 0.38 of the whole
_FRACTIONS = 2.0 ** (-np.arange(97) / 16)
# one side, then the other, until neither moves: the second round moved one of 83 tensors, the third none
_ROUNDS = 4

_Floats = npt.NDArray[np.float64]
_Cost = Callable[[_Floats, _Floats], _Floats]
"""Low and high ends of candidates -> what each costs."""


@dataclass(frozen=True)
class _Spread:
    """A histogram whose ``edges`` (``BINS + 1``) reach from or over zero; ``counts`` may be parts of values."""

    edges: _Floats
    counts: _Floats

    @property
    def below(self) -> _Floats:
        """Values below each edge."""
        return np.concatenate(([0.0], np.cumsum(self.counts)))


def choose_range(histogram: Histogram, method: Method) -> Range:
    """The range of a format whose int8 has a zero point: its ends are chosen apart.

    Returns:
        ``low <= 0 <= high``; both 0 where the tensor is zero throughout. A tensor without negative values keeps
        ``low = 0``, one without positive values ``high = 0``. Never wider than the values with zero.
    """
    if histogram.low == histogram.high == 0:
        return Range(0.0, 0.0)
    spread = _over_zero(histogram)
    match method:
        case "minmax":
            return Range(float(spread.edges[0]), float(spread.edges[-1]))
        case "percentile":
            return _narrowest(spread)
        case "mse":
            return _search(spread, lambda low, high: _affine_error(spread, low, high))
        case "kl":
            return _search(spread, lambda low, high: _divergences(spread, low, high, _STEPS + 1))


def choose_threshold(histogram: Histogram, method: Method) -> Range:
    """The range of a format whose int8 is symmetric, -127..127: ``low = -high``.

    Returns:
        Both ends 0 where the tensor is zero throughout. Never wider than the largest magnitude.
    """
    if histogram.low == histogram.high == 0:
        return Range(0.0, 0.0)
    spread = _over_zero(histogram)
    magnitudes = _fold(spread)
    match method:
        case "minmax":
            threshold = float(magnitudes.edges[-1])
        case "percentile":
            threshold = _narrowest(magnitudes).high
        case "mse":
            threshold = _search(magnitudes, lambda _, high: _symmetric_error(spread, high)).high
        case "kl":
            levels = _HALF_STEPS + 1
            threshold = _search(magnitudes, lambda low, high: _divergences(magnitudes, low, high, levels)).high
    return Range(-threshold, threshold)


def _over_zero(histogram: Histogram) -> _Spread:
    """The histogram with zero inside; bins that are widened for it share their values evenly."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    edges = np.linspace(low, high, BINS + 1)
    counts = histogram.counts.astype(np.float64)
    if histogram.low == histogram.high:
        counts = np.zeros(BINS)
        counts[0 if histogram.low < 0 else -1] = histogram.counts.sum()
    elif low != histogram.low or high != histogram.high:
        below = np.concatenate(([0.0], np.cumsum(counts)))
        counts = np.diff(np.interp(edges, histogram.edges, below))
    return _Spread(edges, counts)


def _fold(spread: _Spread) -> _Spread:
    """Magnitudes of the values."""
    edges = np.linspace(0.0, max(-spread.edges[0], spread.edges[-1]), BINS + 1)
    below = spread.below
    inside = np.interp(edges, spread.edges, below) - np.interp(-edges, spread.edges, below)
    return _Spread(edges, np.diff(inside))


def _narrowest(spread: _Spread) -> Range:
    """The shortest range of bins, with zero inside, that leaves out no more than ``_CUT`` of the values."""
    edges, below = spread.edges, spread.below
    # sums of parts of values are rounded
    budget = below[-1] * (_CUT + 1e-12)
    starts = np.flatnonzero((edges <= 0) & (below <= budget))
    ends = np.searchsorted(below, below[-1] - budget + below[starts])
    best = np.argmin(np.maximum(edges[ends], 0) - edges[starts])
    return Range(float(edges[starts[best]]), float(max(edges[ends[best]], 0.0)))


def _search(spread: _Spread, cost: _Cost) -> Range:
    """Narrow both sides together, then each alone, as long as the cost falls."""
    whole_low, whole_high = spread.edges[0], spread.edges[-1]
    lows, highs = whole_low * _FRACTIONS, whole_high * _FRACTIONS
    best = int(np.argmin(cost(lows, highs)))
    low, high = lows[best], highs[best]
    if whole_low < 0 < whole_high:
        for _ in range(_ROUNDS):
            before = (low, high)
            low = lows[np.argmin(cost(lows, np.full_like(lows, high)))]
            high = highs[np.argmin(cost(np.full_like(highs, low), highs))]
            if before == (low, high):
                break
    return Range(float(low), float(high))


def _affine_error(spread: _Spread, low: _Floats, high: _Floats) -> _Floats:
    """Sum of squared errors with ``_STEPS`` steps from about ``low`` to ``high``, zero being one of the levels."""
    step = (high - low) / _STEPS
    lowest = -np.rint(-low / step)
    return _squared_error(spread, step, lowest, lowest + _STEPS)


def _symmetric_error(spread: _Spread, threshold: _Floats) -> _Floats:
    edge = np.full_like(threshold, _HALF_STEPS)
    return _squared_error(spread, threshold / _HALF_STEPS, -edge, edge)


def _squared_error(spread: _Spread, step: _Floats, lowest: _Floats, highest: _Floats) -> _Floats:
    """Sum over all values of (value - nearest level)^2 for each candidate, values being even within a bin.

    The levels are ``step * k`` with ``lowest <= k <= highest``. The integral of the squared error from 0 to t is
    k step^3 / 12 + (t - k step)^3 / 3, with k the level nearest to t: |k| whole steps of step^3 / 12 each, and
    what is left, inside the levels or beyond them.
    """
    edges, step = spread.edges, step[:, np.newaxis]
    level = np.clip(np.rint(edges / step), lowest[:, np.newaxis], highest[:, np.newaxis])
    left = edges - level * step
    integral = level * (step**3 / 12) + left * left * left / 3
    return np.diff(integral, axis=1) @ (spread.counts / np.diff(edges))


def _divergences(spread: _Spread, low: _Floats, high: _Floats, levels: int) -> _Floats:
    """Kullback-Leibler divergence for each candidate; infinite where it has too few bins or cuts too much."""
    width = (spread.edges[-1] - spread.edges[0]) / BINS
    first = np.rint((low - spread.edges[0]) / width).astype(int)
    last = np.rint((high - spread.edges[0]) / width).astype(int)
    below = spread.below
    return np.array([_divergence(below, *ends, levels) for ends in zip(first, last, strict=True)])


def _divergence(below: _Floats, first: int, last: int, levels: int) -> float:
    """Of the bins from ``first`` to before ``last``, what is cut added to the outer ones, and the same in levels."""
    cut = below[first] + below[-1] - below[last]
    if last - first < levels or cut > _CUT_BY_DIVERGENCE * below[-1]:
        return np.inf
    bins = np.arange(first, last + 1)
    clipped = np.diff(below[bins])
    clipped[0] += below[first]
    clipped[-1] += below[-1] - below[last]
    level_edges = np.linspace(first, last, levels + 1)
    # even within each level; a bin that a level's edge cuts belongs to both in parts
    rounded = np.diff(np.interp(bins, level_edges, np.interp(level_edges, bins, below[bins])))
    rounded += 1 / len(rounded)
    filled = clipped > 0
    ratio = (clipped[filled] / clipped.sum()) / (rounded[filled] / rounded.sum())
    return float(clipped[filled] @ np.log(ratio) / clipped.sum())
