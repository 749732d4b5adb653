"""Find the largest input size of a network that reaches a frame rate, with the quality of every size tried."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact import Artifact
from mobile_matting_export.contestant import Contestant, artifact_contestant, network_contestant
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.data_set import Clip
from mobile_matting_export.errors import QualityError, UsageError
from mobile_matting_export.evaluate import evaluate
from mobile_matting_export.images import load_picture, sample_pictures
from mobile_matting_export.matte import open_session
from mobile_matting_export.metrics import iou, mad
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.networks.spec import NetworkSpec
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import Target
from mobile_matting_export.time_here import FAST, INCONCLUSIVE, WRONG, Timing, time_here

# below it a portrait's head is a few pixels of the deepest map
_SMALLEST_SIDE = 64
# sides between multiples of this differ too little in time to be worth a conversion
_STEP = 32

Size = tuple[int, int]

Timer = Callable[[Sequence[Artifact], float], list[Timing]]
"""Times artifacts of sizes in turns and judges each by the frames a second asked for."""


@dataclass(frozen=True)
class Point:
    """One size and precision. ``timing`` is the timer's: of this computer or of a phone.

    ``quality`` maps ``mad`` and ``iou`` to means over the pictures, against the
    network at its full size or against ground truth. ``missed`` says why there is no usable artifact.
    """

    size: Size
    precision: str
    artifact: Artifact | None = None
    timing: Timing | None = None
    quality: dict[str, float] | None = None
    missed: str | None = None

    @property
    def reaches(self) -> bool:
        """Whether the frame rate is reached, beyond doubt."""
        return self.timing is not None and self.timing.outcome == FAST

    @property
    def doubtful(self) -> bool:
        """Whether the time says neither that it is reached nor that it is missed."""
        return self.timing is not None and self.timing.outcome == INCONCLUSIVE


@dataclass(frozen=True)
class Fit:
    """Points tried, largest first; ``chosen`` is the largest that reaches the rate, None where none does.

    ``reference`` says what the quality is measured against; ``full`` is the quality of the network itself at
    its full size, where there is ground truth.
    """

    points: tuple[Point, ...]
    chosen: Point | None
    reference: str
    full: dict[str, float] | None


@dataclass(frozen=True)
class Search:
    """What to look for. ``sizes`` are tried instead of the network's legal ones; ``clips`` are ground truth.

    ``timer`` measures on a phone; None: on this computer.
    """

    target: Target
    precisions: Sequence[str]
    min_fps: float
    output: Path
    sizes: Sequence[Size] = ()
    clips: Sequence[Clip] = ()
    cache: ResultCache | None = None
    timer: Timer | None = None


def legal_sizes(spec: NetworkSpec) -> list[Size]:
    """Input sizes of the network's usual aspect up to its usual size, largest first.

    Both sides are multiples of what the network needs, and of 32 where that leaves the aspect as it is; a
    network of fixed size has one.
    """
    if spec.fixed_size:
        return [spec.size]
    height, width = spec.size
    step = spec.divisor
    while step < _STEP:
        step += spec.divisor
    found = {spec.size}
    for side in range(step, max(height, width), step):
        scale = side / max(height, width)
        other = round(min(height, width) * scale / spec.divisor) * spec.divisor
        size = (side, other) if height >= width else (other, side)
        if min(size) >= min(_SMALLEST_SIDE, *spec.size):
            found.add(size)
    return sorted(found, key=lambda size: -size[0] * size[1])


@one_thread()
def fit_network(
    load: Callable[[Size | None], LoadedNetwork], search: Search, announce: Announce = lambda message: None
) -> Fit:
    """Convert, verify and time sizes by bisection, every precision on its own, then time all in turns.

    Time grows with the size, so the sizes between one that is fast enough and one that is not are halved; a
    size whose time is inconclusive counts as too slow.

    Args:
        load: the network for a size (H, W); None for its usual one.
        search: target, precisions, frame rate, sizes.
        announce: called with a sentence as each step starts.

    Raises:
        UsageError: the target runs on a GPU, which this machine's CPU says nothing about; an unfit size.
        ConversionError: the network cannot be converted at all.
        Whatever the timer raises: a phone that is lost ends the search; what was converted is in the cache.
    """
    if search.timer is None and search.target.accelerator != "cpu":
        raise UsageError(
            f"target {search.target.name} runs on a phone's GPU, and the times of this machine's CPU say nothing about "
            "it: name a phone with --device, or fit tflite-cpu, ncnn-cpu or onnx on the host"
        )
    full = load(None)
    sizes = sorted(search.sizes or legal_sizes(full.spec), key=lambda size: -size[0] * size[1])
    points = [p for precision in search.precisions for p in _bisect(load, search, sizes, precision, announce)]
    announce("timing all sizes tried in turns")
    timed = iter(_time(search, [p.artifact for p in points if p.artifact is not None]))
    points = [_judged(p, next(timed)) if p.artifact is not None else p for p in points]
    announce("measuring quality")
    qualities, of_full, reference = _qualities([p.artifact for p in points if p.artifact], full, search.clips)
    judged = iter(qualities)
    points = [replace(p, quality=next(judged)) if p.artifact is not None else p for p in points]
    points.sort(key=lambda p: (-p.size[0] * p.size[1], search.precisions.index(p.precision)))
    chosen = next((p for p in points if p.reaches), None)
    return Fit(tuple(points), chosen, reference, of_full)


def _bisect(
    load: Callable[[Size | None], LoadedNetwork],
    search: Search,
    sizes: Sequence[Size],
    precision: str,
    announce: Announce,
) -> list[Point]:
    """Points tried on the way to the border between too slow and fast enough; ``sizes`` fall.

    A size that misses its limits says nothing of the others' speed: it is left out.
    """
    tried: list[Point] = []
    left = list(sizes)
    slow, fast, middle = -1, len(left), 0  # the largest first: it may do
    while fast - slow > 1:
        tried.append(_try(load, search, left[middle], precision, announce))
        if tried[-1].missed is not None:
            del left[middle]
            fast -= 1
        elif tried[-1].reaches:
            fast = middle
        else:
            slow = middle
        middle = (slow + fast) // 2
    return tried


def _try(
    load: Callable[[Size | None], LoadedNetwork],
    search: Search,
    size: Size,
    precision: str,
    announce: Announce,
) -> Point:
    announce(f"trying {size[0]}x{size[1]} {precision}")
    place = search.output / f"{size[0]}x{size[1]}"
    try:
        (artifact,) = convert_network(load(size), Job((search.target,), place, precision, cache=search.cache))
    except QualityError as error:
        announce(Part(f"{size[0]}x{size[1]} {precision}: misses its limits"))
        return Point(size, precision, missed=str(error))
    (timing,) = _time(search, [artifact])
    took = "no time" if timing.ms is None else f"{timing.ms:.1f} ms"
    announce(Part(f"{size[0]}x{size[1]} {precision}: {took}, {timing.outcome}"))
    return _judged(Point(size, precision, artifact), timing)


def _time(search: Search, artifacts: Sequence[Artifact]) -> list[Timing]:
    return (search.timer or time_here)(artifacts, search.min_fps) if artifacts else []


def _judged(point: Point, timing: Timing) -> Point:
    """The point with its time; one whose matte is wrong there has no usable artifact."""
    if timing.outcome == WRONG:
        return Point(point.size, point.precision, timing=timing, missed=timing.reason)
    return replace(point, timing=timing)


def _qualities(
    artifacts: Sequence[Artifact], full: LoadedNetwork, clips: Sequence[Clip]
) -> tuple[list[dict[str, float]], dict[str, float] | None, str]:
    """MAD and IoU of each artifact, those of the full network where there is truth, and against what."""
    with contextlib.ExitStack() as opened:
        contestants = [
            artifact_contestant(one, opened.enter_context(contextlib.closing(open_session(one)))) for one in artifacts
        ]
        height, width = full.size
        if clips:
            scores = evaluate([network_contestant(full), *contestants], clips, worst=0).scores
            means = [{name: float(np.nanmean(score[name])) for name in ("mad", "iou")} for score in scores]
            return means[1:], means[0], "ground truth"
        found = _agreement(contestants, network_contestant(full))
        return found, None, f"{full.spec.name} in PyTorch at {height}x{width}"


def _agreement(contestants: Sequence[Contestant], reference: Contestant) -> list[dict[str, Any]]:
    """MAD and IoU against another's mattes, at the pictures' own size, over the bundled photographs."""
    pictures = [load_picture(path) for path in sample_pictures()]
    expected = [reference.matte(picture)[0] for picture in pictures]
    found = []
    for contestant in contestants:
        mattes = [contestant.matte(picture)[0] for picture in pictures]
        pairs = list(zip(mattes, expected, strict=True))
        found.append({name: statistics.mean(score(*pair) for pair in pairs) for name, score in _SCORES.items()})
    return found


_SCORES: dict[str, Callable[..., float]] = {"mad": mad, "iou": iou}
