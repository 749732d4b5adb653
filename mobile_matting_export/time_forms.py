"""Time forms of one network in turns, here: one thread, process CPU time, a new order each round.

Where a runtime's memory happens to lie moves a file's time by up to 5 % (the same file loaded twice, ncnn, modnet), so
every form is loaded anew several times.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.errors import UsageError
from mobile_matting_export.targets import Target
from mobile_matting_export.time_in_rounds import time_in_rounds


@dataclass(frozen=True)
class Contest:
    """Forms of one network that are to be timed, as files.

    Attributes:
        target: whose format opens the files.
        precision: of all of them.
        forms: files of each form.
        frame: input name -> float32 1xCxHxW.
        inputs: what the files take, as a manifest describes it.
        outputs: what they give, likewise.
        macs: multiply-accumulates of one frame.
    """

    target: Target
    precision: str
    forms: Sequence[tuple[Path, ...]]
    frame: Mapping[str, np.ndarray]
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    macs: int


@dataclass(frozen=True)
class FormTimer:
    """What times forms: ``time`` gives milliseconds of each form, one a round; rounds are comparable.

    ``where`` names the machine and how it is asked, for the cache and the manifest; empty for this computer, which
    the cache knows. ``unit`` says what the milliseconds are of.
    """

    where: str
    unit: str
    time: Callable[[Contest, Announce], list[list[float]]]


_LOADS = 4
_ROUNDS = 6  # of each load


def time_forms_here(contest: Contest, announce: Announce) -> list[list[float]]:
    """Milliseconds of process CPU time of each form for one frame, one a round; the row must be one for CPUs."""
    target, forms = contest.target, contest.forms
    shuffle = random.Random(0).shuffle
    taken: list[list[float]] = [[] for _ in forms]
    for load in range(_LOADS):
        announce(Part(f"timing {len(forms)} loads of forms in turns", load, _LOADS))
        with contextlib.ExitStack() as opened:
            order = list(range(len(forms)))
            shuffle(order)  # who is loaded first gets the memory that lies best
            sessions = {}
            for index in order:
                session = target.format.open(forms[index], target.accelerator)
                sessions[index] = opened.enter_context(contextlib.closing(session))
            calls = [functools.partial(sessions[index].run, contest.frame) for index in range(len(forms))]
            for times, more in zip(taken, time_in_rounds(calls, _ROUNDS, shuffle), strict=True):
                times.extend(more)
    return taken


HERE = FormTimer("", "ms of process CPU time for a frame, one thread", time_forms_here)


def require_cpu(target: Target) -> None:
    """Refuse a row whose files this computer's CPU says nothing about.

    Raises:
        UsageError: with the reason and the way out.
    """
    if target.accelerator != "cpu":
        raise UsageError(
            f"--autotune times forms on this computer's CPU, which says nothing about the GPU that {target.name} is "
            "for: name a phone with --device, or leave --autotune away"
        )
