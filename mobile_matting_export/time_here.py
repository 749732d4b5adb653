"""Time artifacts on this computer: process CPU time of a frame, one thread, all in turns."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.images import load_picture, sample_pictures
from mobile_matting_export.matte import make_inputs, open_session
from mobile_matting_export.time_in_rounds import time_in_rounds

FAST, SLOW, INCONCLUSIVE, WRONG = "fast", "slow", "inconclusive", "wrong"

_REPEATS = 15


@dataclass(frozen=True)
class Timing:
    """How long one artifact takes for a frame, and what that says of the frame rate asked for.

    ``ms`` is None where there was no time at all. ``outcome`` is ``fast`` (the rate is reached), ``slow``,
    ``inconclusive`` (neither can be defended) or ``wrong`` (fast or not, the matte is another one there);
    ``reason`` is a sentence for the last two.
    """

    ms: float | None
    outcome: str
    reason: str = ""


def time_here(artifacts: Sequence[Artifact], min_fps: float) -> list[Timing]:
    """The median of each artifact's frames in milliseconds of process CPU time, interleaved."""
    picture = load_picture(sample_pictures()[0])
    with contextlib.ExitStack() as opened:
        sessions = [opened.enter_context(contextlib.closing(open_session(artifact))) for artifact in artifacts]
        inputs = [make_inputs(artifact, picture) for artifact in artifacts]
        calls = [functools.partial(each.run, frame) for each, frame in zip(sessions, inputs, strict=True)]
        taken = time_in_rounds(calls, _REPEATS)
    medians = [statistics.median(times) for times in taken]
    return [Timing(ms, FAST if 1000 / ms >= min_fps else SLOW) for ms in medians]
