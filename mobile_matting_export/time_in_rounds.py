"""Time several calls in rounds: process CPU time, one after the other, the first rounds untimed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

WARM_UP = 2
"""Rounds that bring caches to what later ones find."""


def time_in_rounds(
    calls: Sequence[Callable[[], object]], rounds: int, reorder: Callable[[list[int]], None] = lambda order: None
) -> list[list[float]]:
    """Milliseconds of process CPU time of each call, one a round.

    Args:
        calls: each runs one frame.
        rounds: that are timed.
        reorder: changes the order of the calls, in place, before each round; as given without it.
    """
    order = list(range(len(calls)))
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(WARM_UP + rounds):
        reorder(order)
        for index in order:
            begun = time.process_time()
            calls[index]()
            if number >= WARM_UP:
                taken[index].append((time.process_time() - begun) * 1000)
    return taken
