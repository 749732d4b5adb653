"""What manifest.json says of an int8 artifact: pictures, ranges, budget, plan, flicker, and how layers were ranked."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from mobile_matting_export.calibration import Calibration
from mobile_matting_export.make_int8 import Int8File
from mobile_matting_export.parity import Case
from mobile_matting_export.quantization.budget import Budget
from mobile_matting_export.quantization.judge_plan import PlanJudge, run_files
from mobile_matting_export.quantization.measure_stability import Stability
from mobile_matting_export.quantization.score import Score


def describe_int8(made: Int8File, calibration: Calibration, budget: Budget, stability: Stability) -> dict[str, Any]:
    """The manifest's ``quantization``: plain values, the same for the same artifact.

    ``layers`` and ``blocks`` are the rankings, the most sensitive first; empty where all layers in int8 hold the budget
    or a recipe was replayed. ``points`` are the plans tried on all held-out frames, each with its number of layers and
    share of multiply-accumulates in float, the bytes of its files, and how much of the budget it uses. Errors are
    against the float network; see ``quantization/score.py``. ``temporal`` is flicker, see
    ``quantization/measure_stability.py``. ``weight_bytes`` are those of a float layer in float32.
    """
    found, judge = made.found, made.judge
    in_float = [layer for layer in judge.layers if layer.name in found.keep_float]
    return {
        "arithmetic": made.recipe.arithmetic,
        "ranges": made.recipe.method,
        "equalized": made.recipe.equalize,
        "biases_corrected": made.recipe.correct_biases,
        "rounding": made.recipe.rounding,
        "tuned": None if made.tuned is None else asdict(made.tuned),
        "calibration": {
            "source": calibration.source,
            "frames": len(calibration.ranging),
            "held_out": len(calibration.holdout),
            "sha256": calibration.sha256,
        },
        "budget": dict(budget.limits),
        "held_out": _score(found.score) | {"used": _number(budget.use(found.score))},
        "all_int8": _score(found.points[0].score) if found.points else None,
        "layers_int8": len(judge.layers) - len(in_float),
        "layers_float": [
            {"layer": one.name, "module": one.module, "kind": one.kind, "weight_bytes": one.weight_bytes}
            for one in in_float
        ],
        "macs_int8": 1 - _share_in_float(judge, found.keep_float),
        "fp32_bytes": made.full_bytes,
        "temporal": asdict(stability),
        "points": [
            {
                "float": len(one.keep_float),
                "macs_float": _share_in_float(judge, one.keep_float),
                "bytes": judge.sizes[one.keep_float],
                **_score(one.score),
                "used": _number(budget.use(one.score)),
                "chosen": one.keep_float == found.keep_float,
            }
            for one in found.points
        ],
        "layers": [
            {"layer": one.layer.name, "module": one.layer.module, "kind": one.layer.kind}
            | ({"alone": None} if one.alone is None else {"alone": _score(one.alone)})
            for one in found.layers
        ],
        "blocks": [
            {"module": one.module, "layers": len(one.layers)}
            | ({"without": None} if one.without is None else {"without": _score(one.without)})
            for one in found.blocks
        ],
    }


def worst_held_out(made: Int8File, calibration: Calibration) -> tuple[Case, np.ndarray]:
    """The held-out frame with the largest error in the band, and alpha 1x1xHxW float32 of the int8 files there."""
    case = next(case for case in calibration.holdout if case.name == made.found.score.worst)
    return case, run_files(made.judge.file_format, made.files, [case])[0]


def _share_in_float(judge: PlanJudge, keep_float: frozenset[str]) -> float:
    macs = sum(layer.macs for layer in judge.layers)
    return sum(layer.macs for layer in judge.layers if layer.name in keep_float) / macs if macs else 0.0


def _score(score: Score) -> dict[str, Any]:
    return {name: _number(value) for name, value in asdict(score).items()}


def _number(value: Any) -> Any:
    """JSON has no infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
