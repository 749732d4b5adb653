"""How the values of a network's tensors are distributed over the calibration pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobile_matting_export.errors import ConversionError

BINS = 2048
"""Eight to a step of 8 bits: fine enough to judge ranges down to an eighth of the whole."""

Passes = Callable[[], Iterable[tuple[str, np.ndarray]]]
"""Runs all pictures and yields every tensor of each by name; each call gives the same values again."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """The values of one tensor over all pictures, in its own units.

    ``low`` and ``high`` are the smallest and largest value met, zero among them. ``counts``, int64 of ``BINS``, are the
    values other than zero in linear bins between the two: zero is exact in every range, so it says nothing of which
    one is best, and behind a ReLU it is most of the tensor. Where the tensor is constant, ``low`` equals ``high`` and
    all values are in the first bin; where it is zero throughout, there are none.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Where the bins begin and end: float64 of ``BINS + 1``, from ``low`` to ``high``."""
        return np.linspace(self.low, self.high, BINS + 1)


def collect_histograms(passes: Passes) -> dict[str, Histogram]:
    """Histogram of every tensor, in the order of their names' first appearance.

    Args:
        passes: called twice, for the extremes and for the counts; nothing of a tensor is kept in between. What a
            second run finds beyond the extremes of the first (a sum in another order) belongs to the outer bins.

    Raises:
        ConversionError: a tensor has NaN or infinite values; names it.
        ValueError: the second call yields a tensor that the first did not.
    """
    extremes: dict[str, tuple[float, float]] = {}
    for name, values in passes():
        low, high = float(values.min()), float(values.max())
        # NaN is in the minimum of whatever holds one
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ConversionError(
                f"the tensor {name} has values that are not finite ({low:g} to {high:g}) on a calibration picture, "
                "so no range fits it; run the network in float32 on that picture and look where they come from"
            )
        known = extremes.get(name, (low, high))
        extremes[name] = (min(known[0], low), max(known[1], high))
    counts = {name: np.zeros(BINS, np.int64) for name in extremes}
    for name, values in passes():
        if name not in counts:
            raise ValueError(f"the tensor {name} is in the second pass only")
        counts[name] += _count(values, *extremes[name])
    return {name: Histogram(low, high, counts[name]) for name, (low, high) in extremes.items()}


def save_histograms(histograms: Mapping[str, Histogram], path: Path) -> None:
    """Write an .npz that ``load_histograms`` reads: arrays only, nothing pickled."""
    found = list(histograms.values())
    np.savez_compressed(
        path,
        names=np.array(list(histograms), np.str_),
        low=np.array([one.low for one in found], np.float64),
        high=np.array([one.high for one in found], np.float64),
        counts=np.array([one.counts for one in found], np.int64).reshape(len(found), BINS),
    )


def load_histograms(path: Path) -> dict[str, Histogram]:
    """Read what ``save_histograms`` wrote, in its order."""
    with np.load(path, allow_pickle=False) as kept:
        rows = zip(kept["names"], kept["low"], kept["high"], kept["counts"], strict=True)
        return {str(name): Histogram(float(low), float(high), counts) for name, low, high, counts in rows}


def _count(values: np.ndarray, low: float, high: float) -> npt.NDArray[np.int64]:
    filled = values[values != 0].astype(np.float64)
    if low == high:
        bins = np.zeros(filled.size, np.int64)
    else:
        bins = np.clip((filled - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.int64)
    return np.bincount(bins, minlength=BINS)
