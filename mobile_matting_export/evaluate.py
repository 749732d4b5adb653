"""Score mattes against ground truth: every contestant on the same pictures, paired."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mobile_matting_export import metrics
from mobile_matting_export.announce import Announce
from mobile_matting_export.bootstrap import interval
from mobile_matting_export.contestant import Contestant
from mobile_matting_export.data_set import Clip, Frame, load_truth
from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import load_picture
from mobile_matting_export.metrics import resize_to

BINARY_NOTE = "{count} of {all} true mattes are binary: of them only IoU tells how good a matte is"
FILM_NOTE = (
    "{clip} is read as a film of {frames} frames, flicker scored, states fed back (--read-as stills if it is none)"
)
FEW_NOTE = "fewer than {fewest} independent pictures or films: the intervals say little"
FEWEST_UNITS = 5
ONE_CLIP_NOTE = "all frames are of one clip, and not independent: the intervals speak of this clip only"


@dataclass(frozen=True)
class Metric:
    """A column: ``factor`` is what people multiply by, ``better`` is -1 where less is better, else 1."""

    name: str
    title: str
    factor: float
    better: int
    score: Callable[[npt.NDArray[np.floating], npt.NDArray[np.floating]], float]


METRICS = (
    Metric("mad", "MAD x1e-3", 1e3, -1, metrics.mad),
    Metric("mse", "MSE x1e-3", 1e3, -1, metrics.mse),
    Metric("sad", "SAD", 1, -1, metrics.sad),
    Metric("grad_adobe", "Grad Adobe", 1, -1, metrics.grad_adobe),
    Metric("grad_plain", "Grad plain", 1, -1, metrics.grad_plain),
    Metric("grad_fdm", "Grad FDM x1e-3", 1e3, -1, metrics.grad_fdm),
    Metric("grad_mmnet", "Grad MMNet x1e-3", 1e3, -1, metrics.grad_mmnet),
    Metric("conn", "Conn", 1, -1, metrics.conn),
    Metric("mad_band", "MAD band x1e-3", 1e3, -1, metrics.mad_band),
    Metric("iou", "IoU", 1, 1, metrics.iou),
)
DTSSD = Metric("dtssd", "dtSSD", 1, -1, lambda prediction, truth: math.nan)
"""Of two consecutive frames, not of one picture; it stands behind the others where there is a sequence."""


@dataclass(frozen=True)
class Shown:
    """A picture to look at: RGB uint8 H x W x 3, truth and every contestant's matte H x W in [0, 1]."""

    name: str
    picture: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.floating]
    mattes: tuple[npt.NDArray[np.floating], ...]
    mads: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """Scores of every contestant on every picture; the lists run over the pictures, in order.

    ``scores[contestant][metric]`` holds one number a picture (NaN where it has none). ``worst`` are the
    pictures with the largest MAD of any contestant, worst first. ``films`` are those of ``clips`` that were
    read as consecutive frames.
    """

    titles: tuple[str, ...]
    sources: tuple[Mapping[str, str], ...]
    devices: tuple[str, ...]
    names: tuple[str, ...]
    clips: tuple[str, ...]
    films: frozenset[str]
    scores: tuple[dict[str, list[float]], ...]
    worst: tuple[Shown, ...]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The columns that hold at least one number."""
        return tuple(m for m in (*METRICS, DTSSD) if not all(map(math.isnan, self.scores[0][m.name])))


@dataclass
class _Tally:
    """What is gathered while the pictures go by."""

    shown: int
    names: list[str] = field(default_factory=list)
    clips: list[str] = field(default_factory=list)
    scores: list[dict[str, list[float]]] = field(default_factory=list)
    worst: list[Shown] = field(default_factory=list)
    binary: int = 0

    def ranks(self, mads: Sequence[float]) -> bool:
        """Whether a picture of these errors is among the worst so far."""
        return len(self.worst) < self.shown or (self.shown > 0 and max(mads) > max(self.worst[-1].mads))

    def keep(self, case: Shown) -> None:
        self.worst = sorted([*self.worst, case], key=lambda shown: -max(shown.mads))[: self.shown]


def evaluate(
    contestants: Sequence[Contestant],
    clips: Sequence[Clip],
    worst: int = 8,
    announce: Announce = lambda message: None,
) -> Evaluation:
    """Matte every frame with every contestant and score it against its truth.

    Args:
        contestants: at least one; the first is the one that others are compared with.
        clips: from ``read_data_set``.
        worst: how many of the worst pictures to keep for looking at.
        announce: called with a sentence before each frame.

    Raises:
        UsageError: an unreadable picture or matte.
        QualityError: a contestant returned values that are not numbers.
    """
    tally = _Tally(worst, scores=[{m.name: [] for m in (*METRICS, DTSSD)} for _ in contestants])
    total = sum(len(clip.frames) for clip in clips)
    for clip in clips:
        before: list[_Before | None] = [None] * len(contestants)
        for frame in clip.frames:
            announce(f"picture {len(tally.names) + 1} of {total}: {clip.name}/{frame.name}")
            after = _score_frame(contestants, clip, frame, before, tally)
            before = [*after] if clip.consecutive else [None] * len(contestants)
    return Evaluation(
        titles=_distinct([one.title for one in contestants]),
        sources=tuple(one.source for one in contestants),
        devices=tuple(one.device for one in contestants),
        names=tuple(tally.names),
        clips=tuple(tally.clips),
        films=frozenset(clip.name for clip in clips if clip.consecutive),
        scores=tuple(tally.scores),
        worst=tuple(tally.worst),
        notes=tuple(_notes(clips, tally.binary)),
    )


def _notes(clips: Sequence[Clip], binary: int) -> Iterator[str]:
    total = sum(len(clip.frames) for clip in clips)
    if binary:
        yield BINARY_NOTE.format(count=binary, all=total)
    films = [clip for clip in clips if clip.consecutive]
    yield from (FILM_NOTE.format(clip=clip.name, frames=len(clip.frames)) for clip in films)
    if len(films) == len(clips) == 1:
        yield ONE_CLIP_NOTE
    elif total - sum(len(film.frames) for film in films) + len(films) < FEWEST_UNITS:
        yield FEW_NOTE.format(fewest=FEWEST_UNITS)


@dataclass(frozen=True)
class _Before:
    """The frame before, as one contestant saw it: the network's outputs, its matte at the truth's size, the truth."""

    outputs: Mapping[str, np.ndarray]
    matte: npt.NDArray[np.floating]
    truth: npt.NDArray[np.floating]


def _score_frame(
    contestants: Sequence[Contestant], clip: Clip, frame: Frame, before: Sequence[_Before | None], tally: _Tally
) -> list[_Before]:
    picture, truth = load_picture(frame.picture), load_truth(frame.truth)
    _require_same_aspect(frame, picture.shape, truth.shape)
    tally.binary += not ((truth > 0) & (truth < 1)).any()
    after = []
    for contestant, scores, last in zip(contestants, tally.scores, before, strict=True):
        at_picture_size, outputs = contestant.matte(picture, None if last is None else last.outputs)
        matte = resize_to(at_picture_size, truth.shape)
        for metric in METRICS:
            scores[metric.name].append(metric.score(matte, truth))
        if last is not None and last.truth.shape != truth.shape:
            raise UsageError(
                f"{frame.truth} is {_size(truth.shape)}, the matte of the frame before {_size(last.truth.shape)}: a "
                "film keeps its size; evaluate it with --read-as stills, or name clips of one size"
            )
        flicker = math.nan if last is None else metrics.dtssd([last.matte, matte], [last.truth, truth])
        scores[DTSSD.name].append(flicker)
        after.append(_Before(outputs, matte, truth))
    tally.names.append(frame.name)
    tally.clips.append(clip.name)
    mads = tuple(scores["mad"][-1] for scores in tally.scores)
    if tally.ranks(mads):
        mattes = tuple(one.matte.astype(np.float32) for one in after)
        tally.keep(Shown(f"{clip.name}/{frame.name}", picture, truth.astype(np.float32), mattes, mads))
    return after


def _require_same_aspect(frame: Frame, picture: tuple[int, ...], truth: tuple[int, ...]) -> None:
    """Refuse a truth that is no scaled version of its picture's frame, to a pixel of rounding."""
    scale = max(truth[0] / picture[0], truth[1] / picture[1])
    if abs(scale * picture[0] - truth[0]) > 1 + scale or abs(scale * picture[1] - truth[1]) > 1 + scale:
        raise UsageError(
            f"{frame.truth} is {_size(truth)} and {frame.picture.name} {_size(picture)}: a matte has the picture's "
            "aspect; is it the matte of another picture, or cropped?"
        )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def summarize(evaluation: Evaluation, groups: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Means and 95 % intervals, one dictionary a contestant, ready for JSON.

    Args:
        evaluation: of which.
        groups: the unit of the intervals for each picture; default: a film is one unit, and so is each
            picture that is no frame of one; the frames where there is one film and nothing else.

    Returns:
        ``{"title", "source", "device", "images", "metrics": {name: {"mean", "ci95": [low, high], "images"}}}``; from
        the second contestant on also ``"difference"``: the same of its difference to the first, picture by picture.
    """
    if groups is None:
        pairs = zip(evaluation.clips, evaluation.names, strict=True)
        groups = [clip if clip in evaluation.films else f"{clip}/{name}" for clip, name in pairs]
        if len(set(groups)) == 1:  # one film: its frames are all there is to draw
            groups = evaluation.names
    names = [metric.name for metric in evaluation.metrics]
    rows = []
    for index, scores in enumerate(evaluation.scores):
        row: dict[str, Any] = {
            "title": evaluation.titles[index],
            "source": dict(evaluation.sources[index]),
            "device": evaluation.devices[index],
            "images": len(evaluation.names),
            "metrics": {name: _figure(name, scores[name], groups, evaluation.clips) for name in names},
        }
        if index:
            differences = {n: list(np.subtract(scores[n], evaluation.scores[0][n])) for n in names}
            row["difference"] = {n: _figure(n, differences[n], groups, evaluation.clips) for n in names}
        rows.append(row)
    return rows


def _figure(name: str, values: Sequence[float], groups: Sequence[str], clips: Sequence[str]) -> dict[str, Any]:
    """Mean and interval over the pictures that have a number; of dtSSD first over frames, then over clips."""
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    if not known:
        return {"mean": math.nan, "ci95": [math.nan, math.nan], "images": 0}
    chosen, units = [values[index] for index in known], [groups[index] for index in known]
    of_clips = [clips[index] for index in known]
    if name == DTSSD.name and len(set(of_clips)) > 1:
        units = sorted(set(of_clips))
        chosen = [float(np.mean([v for v, c in zip(chosen, of_clips, strict=True) if c == clip])) for clip in units]
    return {"mean": float(np.mean(chosen)), "ci95": list(interval(chosen, units)), "images": len(known)}


def _distinct(titles: Sequence[str]) -> tuple[str, ...]:
    """The titles, numbered where several are the same."""
    seen: Counter[str] = Counter()
    distinct = []
    for title in titles:
        seen[title] += 1
        distinct.append(title if seen[title] == 1 else f"{title} ({seen[title]})")
    return tuple(distinct)
