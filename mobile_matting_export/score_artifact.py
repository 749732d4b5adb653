"""How far an artifact's mattes are from the original network's, in the measures of a quality budget, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, judge_files
from mobile_matting_export.quantization.score import Score, score_mattes
from mobile_matting_export.read_facts import read_facts
from mobile_matting_export.targets import Limits, find_target


@dataclass(frozen=True)
class Scored:
    """``score`` over ``frames`` frames, run on ``device``; ``worst`` is the frame that it names, ``matte`` alpha there.

    ``matte`` is 1x1xHxW float32, as the artifact gave it.
    """

    score: Score
    frames: int
    device: str
    worst: Case
    matte: np.ndarray


@one_thread()
def score_artifact(artifact: Artifact, cases: Sequence[Case]) -> Scored:
    """Run the artifact in its own runtime, in the mode that it was verified in.

    Args:
        artifact: as read from disk.
        cases: what the original network makes of pictures, from ``make_cases``.

    Raises:
        QualityError: its alpha has another shape, or lies outside [0, 1].
        UsageError: the manifest lacks a field or names no known target, or the runtime refuses the files.
        ConversionError: the runtime is missing, or its device failed.
    """
    facts = read_facts(artifact)
    file_format = find_target(facts.target).format
    verdict, mattes = judge_files(file_format, artifact.files, facts.mode, cases, Limits(*facts.limits))
    score = score_mattes([case.name for case in cases], [case.alpha for case in cases], mattes)
    worst, matte = next(pair for pair in zip(cases, mattes, strict=True) if pair[0].name == score.worst)
    return Scored(score, len(cases), verdict.device, worst, matte)
