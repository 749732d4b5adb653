"""Time forms of one network in turns on this computer: one thread, process CPU time, a new order each round.

Where a runtime's memory happens to lie moves a file's time by up to 5 % (the same file loaded twice, ncnn, modnet), so
every form is loaded anew several times.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.targets import Target
from mobile_matting_export.time_in_rounds import time_in_rounds

TimeForms = Callable[[Target, Sequence[tuple[Path, ...]], Mapping[str, np.ndarray]], list[list[float]]]
"""(a row, the files of each form, one frame) -> milliseconds of each form, one a round; rounds are comparable."""

_LOADS = 4
_ROUNDS = 6  # of each load


def time_forms_here(
    target: Target, forms: Sequence[tuple[Path, ...]], frame: Mapping[str, np.ndarray]
) -> list[list[float]]:
    """Milliseconds of process CPU time of each form for one frame, one a round.

    Args:
        target: whose format opens the files; it must be one for CPUs.
        forms: files of each form.
        frame: input name -> float32 1xCxHxW.
    """
    shuffle = random.Random(0).shuffle
    taken: list[list[float]] = [[] for _ in forms]
    for _ in range(_LOADS):
        with contextlib.ExitStack() as opened:
            order = list(range(len(forms)))
            shuffle(order)  # who is loaded first gets the memory that lies best
            sessions = {}
            for index in order:
                session = target.format.open(forms[index], target.accelerator)
                sessions[index] = opened.enter_context(contextlib.closing(session))
            calls = [functools.partial(sessions[index].run, frame) for index in range(len(forms))]
            for times, more in zip(taken, time_in_rounds(calls, _ROUNDS, shuffle), strict=True):
                times.extend(more)
    return taken


def require_cpu(target: Target) -> None:
    """Refuse a row whose files this computer's CPU says nothing about.

    Raises:
        UsageError: with the reason and the way out.
    """
    if target.accelerator != "cpu":
        raise UsageError(
            f"--autotune times forms on this computer's CPU, which says nothing about the GPU that {target.name} is "
            "for: leave --autotune away, or name tflite-cpu or ncnn-cpu"
        )
