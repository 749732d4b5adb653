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

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.errors import UsageError
from mobile_matting_export.parity import Case
from mobile_matting_export.targets import Target
from mobile_matting_export.time_in_rounds import time_in_rounds


@dataclass(frozen=True)
class FormsToTime:
    """Forms of one network that are to be timed, as files.

    Attributes:
        target: whose format opens the files.
        precision: of all of them.
        forms: name -> files.
        case: the frame to time, with the network's alpha of it.
        inputs: what the files take, as a manifest describes it.
        outputs: what they give, likewise.
        macs: multiply-accumulates of one frame.
    """

    target: Target
    precision: str
    forms: Mapping[str, tuple[Path, ...]]
    case: Case
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    macs: int


@dataclass(frozen=True)
class FormTimer:
    """What times forms: ``time`` gives milliseconds of each form, one a round; rounds are comparable.

    A form that cannot run there, or computes another matte there, is missing from what it gives. ``where`` says what
    machine it is and how it is asked, as text for the cache; empty for this computer, which the cache knows. ``unit``
    says what the milliseconds are of.
    """

    where: str
    unit: str
    time: Callable[[FormsToTime, Announce], dict[str, list[float]]]


_LOADS = 4
_ROUNDS = 6  # of each load


def time_forms_here(asked: FormsToTime, announce: Announce) -> dict[str, list[float]]:
    """Milliseconds of process CPU time of each form for one frame, one a round; the row must be one for CPUs."""
    target, names = asked.target, list(asked.forms)
    shuffle = random.Random(0).shuffle
    taken: dict[str, list[float]] = {name: [] for name in names}
    for load in range(_LOADS):
        announce(Part(f"timing the forms {', '.join(names)} in turns", load, _LOADS))
        with contextlib.ExitStack() as opened:
            order = list(names)
            shuffle(order)  # who is loaded first gets the memory that lies best
            sessions = {}
            for name in order:
                session = target.format.open(asked.forms[name], target.accelerator)
                sessions[name] = opened.enter_context(contextlib.closing(session))
            calls = [functools.partial(sessions[name].run, asked.case.inputs) for name in names]
            for name, more in zip(names, time_in_rounds(calls, _ROUNDS, shuffle), strict=True):
                taken[name].extend(more)
    return taken


HOST_TIMER = FormTimer("", "ms of process CPU time for a frame, one thread", time_forms_here)


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
