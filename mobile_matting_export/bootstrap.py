"""Bootstrap intervals of means: how far a figure would move with other pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000
SEED = 0


def interval(values: Sequence[float], groups: Sequence[str] | None = None) -> tuple[float, float]:
    """95 % percentile interval of the mean; the same values give the same interval.

    Args:
        values: one a picture.
        groups: what each picture shows, where several show the same person: whole groups are then
            drawn, since their pictures are not independent. None: every picture is its own group.

    Returns:
        Lower and upper end; both are the mean where there is one group only.
    """
    numbers = np.asarray(values, np.float64)
    names = np.arange(len(numbers)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(names.max()) + 1
    sums, sizes = np.bincount(names, numbers, count), np.bincount(names, minlength=count)
    drawn = np.random.default_rng(SEED).integers(0, count, (DRAWS, count))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
