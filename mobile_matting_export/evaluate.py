"""Score mattes against ground truth: every contestant on the same pictures, paired."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mobile_matting_export import metrics
from mobile_matting_export.bootstrap import interval
from mobile_matting_export.contestant import Contestant
from mobile_matting_export.data_set import Clip, Frame, load_truth
from mobile_matting_export.images import load_picture
from mobile_matting_export.metrics import resize_to

BINARY_NOTE = (
    "the true mattes are binary: only IoU tells how good a matte is, the rest punishes soft edges that are right"
)
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
    pictures with the largest MAD of any contestant, worst first.
    """

    titles: tuple[str, ...]
    devices: tuple[str, ...]
    names: tuple[str, ...]
    clips: tuple[str, ...]
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
    soft: bool = False

    def keep(self, case: Shown) -> None:
        self.worst = sorted([*self.worst, case], key=lambda shown: -max(shown.mads))[: self.shown]


def evaluate(
    contestants: Sequence[Contestant],
    clips: Sequence[Clip],
    worst: int = 8,
    announce: Callable[[str], None] = lambda message: None,
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
    notes: tuple[str, ...] = () if tally.soft else (BINARY_NOTE,)
    if any(clip.consecutive for clip in clips) and len(clips) == 1:
        notes += (ONE_CLIP_NOTE,)
    return Evaluation(
        titles=_distinct([one.title for one in contestants]),
        devices=tuple(one.device for one in contestants),
        names=tuple(tally.names),
        clips=tuple(tally.clips),
        scores=tuple(tally.scores),
        worst=tuple(tally.worst),
        notes=notes,
    )


@dataclass(frozen=True)
class _Before:
    """The frame before, as one contestant saw it: the network's alpha, its matte at the truth's size, the truth."""

    alpha: np.ndarray
    matte: npt.NDArray[np.floating]
    truth: npt.NDArray[np.floating]


def _score_frame(
    contestants: Sequence[Contestant], clip: Clip, frame: Frame, before: Sequence[_Before | None], tally: _Tally
) -> list[_Before]:
    picture, truth = load_picture(frame.picture), load_truth(frame.truth)
    tally.soft |= bool(((truth > 0) & (truth < 1)).any())
    after = []
    for contestant, scores, last in zip(contestants, tally.scores, before, strict=True):
        at_picture_size, alpha = contestant.matte(picture, None if last is None else last.alpha)
        matte = resize_to(at_picture_size, truth.shape)
        for metric in METRICS:
            scores[metric.name].append(metric.score(matte, truth))
        flicker = math.nan if last is None else metrics.dtssd([last.matte, matte], [last.truth, truth])
        scores[DTSSD.name].append(flicker)
        after.append(_Before(alpha, matte, truth))
    tally.names.append(frame.name)
    tally.clips.append(clip.name)
    mads = tuple(scores["mad"][-1] for scores in tally.scores)
    tally.keep(Shown(f"{clip.name}/{frame.name}", picture, truth, tuple(one.matte for one in after), mads))
    return after


def summarize(evaluation: Evaluation, groups: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Means and 95 % intervals, one dictionary a contestant, ready for JSON.

    Args:
        evaluation: of which.
        groups: the unit of the intervals for each picture; default: the clip where several clips are
            sequences, else the picture.

    Returns:
        ``{"title", "device", "images", "metrics": {name: {"mean", "ci95": [low, high]}}}``; from the second
        contestant on also ``"difference"``: the same of its difference to the first, picture by picture.
    """
    films = not all(math.isnan(value) for value in evaluation.scores[0][DTSSD.name])
    if groups is None:
        groups = evaluation.clips if films and len(set(evaluation.clips)) > 1 else None
    names = [metric.name for metric in evaluation.metrics]
    first = evaluation.scores[0]
    rows = []
    for index, scores in enumerate(evaluation.scores):
        row: dict[str, Any] = {
            "title": evaluation.titles[index],
            "device": evaluation.devices[index],
            "images": len(evaluation.names),
            "metrics": {name: _figure(scores[name], groups) for name in names},
        }
        if index:
            differences = {n: [a - b for a, b in zip(scores[n], first[n], strict=True)] for n in names}
            row["difference"] = {name: _figure(differences[name], groups) for name in names}
        rows.append(row)
    return rows


def _figure(values: Sequence[float], groups: Sequence[str] | None) -> dict[str, Any]:
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    if not known:
        return {"mean": math.nan, "ci95": [math.nan, math.nan]}
    chosen = [values[index] for index in known]
    of_groups = None if groups is None else [groups[index] for index in known]
    return {"mean": float(np.mean(chosen)), "ci95": list(interval(chosen, of_groups))}


def _distinct(titles: Sequence[str]) -> tuple[str, ...]:
    """The titles, numbered where several are the same."""
    number = partial(lambda seen, title: seen.append(title) or seen.count(title), [])
    counted = [(title, number(title)) for title in titles]
    return tuple(title if count == 1 else f"{title} ({count})" for title, count in counted)
