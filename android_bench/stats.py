"""Statistics of launches: middle, tail, spread, and how well a handful of launches knows its own middle.

A launch is one start of a runner; its frames are not independent (same clocks, same memory, same heat), so the
launches are what is resampled, never the frames.

The interval is a bootstrap over launches of their interquartile mean (as robust as a median against one odd launch,
but not confined to seven values). A plain percentile interval of seven values is too narrow, so its two levels are
widened by Student's t as in T. Hesterberg, "What Teachers Should Know About the Bootstrap", The American
Statistician 69 (2015), section 4.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
_SEED = 20150
# two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL95 = 1.960


@dataclass(frozen=True)
class Summary:
    """Launches in numbers, milliseconds a frame.

    Attributes:
        p50: median over launches of their medians.
        p90: what 90 % of the frames keep: the middle launch's own 90th percentile. See ``p90_of``.
        p90_of: ``frames`` where the runner gave each launch's 90th percentile (or its 95th, which is never less);
            ``launches`` where it gave none: then p90 is the 90th percentile over the launches.
        ci95: interval of the middle of what is judged (``tails``).
        tails: what is judged, a value a launch: 90th percentile of its frames, or its median without one.
        p10_p90: 10th and 90th percentile of ``tails`` over the launches.
        mad: median absolute deviation of the launches' medians.
        cv: their standard deviation over their mean.
    """

    p50: float
    p90: float
    p90_of: str
    ci95: tuple[float, float]
    tails: tuple[float, ...]
    p10_p90: tuple[float, float]
    mad: float
    cv: float


def launch_value(launch: Mapping[str, Any]) -> float | None:
    """A launch's median, or its mean where the runner gave no median; None when it has neither or was refused."""
    if launch.get("refused"):
        return None
    return next(
        (_number(launch[key]) for key in ("median_ms", "mean_ms") if _number(launch.get(key)) is not None), None
    )


def launch_tail(launch: Mapping[str, Any]) -> float | None:
    """The 90th percentile of a launch's frames, or the 95th; None when the runner gave neither."""
    if launch.get("refused"):
        return None
    return next((_number(launch[key]) for key in ("p90_ms", "p95_ms") if _number(launch.get(key)) is not None), None)


def summarize(launches: Sequence[Mapping[str, Any]]) -> Summary | None:
    """Summary of a report's launches, None when none of them has a value."""
    values = [value for launch in launches if (value := launch_value(launch)) is not None]
    if not values:
        return None
    tails = [tail for launch in launches if (tail := launch_tail(launch)) is not None]
    of_frames = len(tails) == len(values)
    judged = tails if of_frames else values
    array = np.asarray(values, np.float64)
    p50 = float(np.median(array))
    low, high = (float(value) for value in np.quantile(judged, (0.1, 0.9)))
    return Summary(
        p50=p50,
        p90=float(np.median(judged)) if of_frames else high,
        p90_of="frames" if of_frames else "launches",
        ci95=bootstrap_interval(judged),
        tails=tuple(judged),
        p10_p90=(low, high),
        mad=float(np.median(np.abs(array - p50))),
        cv=_spread(array),
    )


def spread(launches: Sequence[Mapping[str, Any]]) -> float:
    """Standard deviation over mean of the launches' medians; 0 for fewer than two."""
    return _spread(np.asarray([value for launch in launches if (value := launch_value(launch)) is not None]))


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the middle of ``values``, the same for the same values; unbounded for fewer than three."""
    if len(values) < 3:
        return 0.0, math.inf
    middles = interquartile_mean(_resampled(np.asarray(values, np.float64)))
    low, high = np.quantile(middles, _levels(len(values)))
    return float(low), float(high)


def ratio_interval(base: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """95 % interval of middle(new) / middle(base). Launches that alternated are resampled as pairs."""
    if min(len(base), len(new)) < 3:
        return 0.0, math.inf
    above, below = (interquartile_mean(_resampled(np.asarray(values, np.float64))) for values in (new, base))
    if len(base) != len(new):  # other lengths, other draws: not pairs
        above = np.random.default_rng(_SEED + 1).permutation(above)
    low, high = np.quantile(above / below, _levels(min(len(base), len(new))))
    return float(low), float(high)


def interquartile_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of the middle half along the last axis; the values at its ends count by the part that lies inside."""
    count = values.shape[-1]
    edges = np.arange(count + 1) / count
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    result: npt.NDArray[np.float64] = np.sort(values, axis=-1) @ (weights / weights.sum())
    return result


def _resampled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    draws = np.random.default_rng(_SEED).integers(0, len(values), (RESAMPLES, len(values)))
    return values[draws]


def _levels(count: int) -> tuple[float, float]:
    freedom = count - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else _NORMAL95
    level = NormalDist().cdf(-math.sqrt(count / freedom) * t)
    return level, 1 - level


def _spread(values: npt.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / values.mean()) if len(values) > 1 else 0.0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        return None
    return float(value)
