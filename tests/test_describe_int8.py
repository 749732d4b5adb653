"""The manifest's ``quantization`` is plain JSON that says what was searched, found, and kept in float."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mobile_matting_export.calibration import Calibration
from mobile_matting_export.describe_int8 import describe_int8, worst_held_out
from mobile_matting_export.make_int8 import Int8File
from mobile_matting_export.parity import Case
from mobile_matting_export.quantization.budget import parse_budget
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.measure_sensitivity import BlockSensitivity, Sensitivity
from mobile_matting_export.quantization.measure_stability import Stability
from mobile_matting_export.quantization.recipe import Recipe
from mobile_matting_export.quantization.score import Score
from mobile_matting_export.quantization.search_budget import Found, Point

LAYERS = (
    QuantizableLayer("a@1", "net.a", "CONV_2D", 300, 1200, 64),
    QuantizableLayer("b@1", "net.b", "CONV_2D", 100, 400, 64),
    QuantizableLayer("net@1", "net", "ADD", 0, 0, 64),
)
NONE, ONE, ALL = frozenset[str](), frozenset({"b@1"}), frozenset({"a@1", "b@1", "net@1"})
STABILITY = Stability("astronaut.jpg", 9, 1.2, 6.4, 6.3)


def score(band: float, worst: str = "a.jpg") -> Score:
    return Score(band, band / 3, band, math.inf if band == math.inf else 35.0, band, worst)


class FakeFormat:
    """Opens files that give the image's first channel."""

    @staticmethod
    def open(files: tuple[Path, ...], accelerator: str) -> Any:
        run = lambda inputs: {"alpha": inputs["image"][:, :1]}  # noqa: E731
        return SimpleNamespace(run=run, close=lambda: None)


def make(found: Found) -> Int8File:
    judge = PlanJudge(FakeFormat, None, (), LAYERS, {}, {}, (), "state")  # type: ignore[arg-type]
    judge.sizes.update({NONE: 500, ONE: 800, ALL: 1700})
    recipe = Recipe(
        "net", "tflite-cpu", (8, 8), "operations", "mse", 0.75, True, tuple(sorted(found.keep_float)), "e", "f", "mad=1"
    )
    return Int8File((), None, recipe, judge, found, 1700)  # type: ignore[arg-type]


def case(name: str, value: float) -> Case:
    image = np.full((1, 3, 8, 8), value, np.float32)
    return Case(name, np.zeros((8, 8, 3), np.uint8), {"image": image}, image[:, :1])


CALIBRATION = Calibration((case("r.jpg", 0.1),) * 6, (case("a.jpg", 0.2), case("b.jpg", 0.7)), "8 pictures", "e", None)
SEARCHED = Found(
    ONE,
    score(0.008, "b.jpg"),
    (Point(NONE, score(math.inf)), Point(ALL, score(0.0001)), Point(ONE, score(0.008))),
    (Sensitivity(LAYERS[1], score(0.02)), Sensitivity(LAYERS[0], None)),
    (BlockSensitivity("net", ("a@1", "b@1"), score(0.001)), BlockSensitivity("", ("net@1",), None)),
)


def describe(found: Found) -> dict[str, Any]:
    described = describe_int8(make(found), CALIBRATION, parse_budget("mad_band=0.01"), STABILITY)
    assert json.loads(json.dumps(described, allow_nan=False)) == described  # plain, and JSON as it is written
    return described


def test_the_plan_says_which_layers_stay_float_and_what_that_is_of_the_network() -> None:
    described = describe(SEARCHED)
    assert (described["arithmetic"], described["ranges"], described["equalized"]) == ("operations", "mse", 0.75)
    assert (described["biases_corrected"], described["rounding"], described["tuned"]) == (True, "nearest", None)
    assert described["calibration"] == {"source": "8 pictures", "frames": 6, "held_out": 2, "sha256": "e"}
    assert described["layers_int8"] == 2
    assert described["layers_float"] == [{"layer": "b@1", "module": "net.b", "kind": "CONV_2D", "weight_bytes": 400}]
    assert described["macs_int8"] == 0.75
    assert described["held_out"]["used"] == 0.8
    assert described["temporal"] == {
        "source": "astronaut.jpg",
        "frames": 9,
        "dtssd": 1.2,
        "dtssd_of_int8": 6.4,
        "dtssd_of_float": 6.3,
    }


def test_every_plan_tried_has_cost_error_and_size_and_the_one_taken_is_marked() -> None:
    points = describe(SEARCHED)["points"]
    assert [(one["float"], one["macs_float"], one["bytes"], one["chosen"]) for one in points] == [
        (0, 0.0, 500, False),
        (3, 1.0, 1700, False),
        (1, 0.25, 800, True),
    ]
    assert [one["used"] for one in points] == [None, 0.01, 0.8]


def test_what_could_not_be_measured_is_null() -> None:
    described = describe(SEARCHED)
    assert described["all_int8"]["mad_band"] is None
    assert described["layers"][0]["alone"]["mad_band"] == 0.02 and described["layers"][1]["alone"] is None
    assert described["blocks"][0] | {"without": 0} == {"module": "net", "layers": 2, "without": 0}
    assert described["blocks"][1] == {"module": "", "layers": 1, "without": None}


def test_a_replayed_recipe_has_neither_plans_nor_rankings() -> None:
    described = describe(Found(ONE, score(0.008), ()))
    assert (described["points"], described["layers"], described["blocks"], described["all_int8"]) == ([], [], [], None)


def test_the_worst_held_out_frame_comes_with_what_the_int8_files_make_of_it() -> None:
    frame, alpha = worst_held_out(make(SEARCHED), CALIBRATION)
    assert frame.name == "b.jpg" and alpha.shape == (1, 1, 8, 8) and alpha.max() == np.float32(0.7)
