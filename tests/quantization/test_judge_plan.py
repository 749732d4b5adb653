"""What is judged once is remembered; a file that cannot be made is told from a failure that passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError, PlanRefused
from mobile_matting_export.parity import Case
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.result_cache import ResultCache


@dataclass
class FakeTool:
    """Writes the plan into a file; ``refuse`` is raised instead, once."""

    refuse: list[Exception] = field(default_factory=list)
    made: int = 0
    quantize_ends: Any = None

    def quantize(self, files: Any, ranges: Any, keep_float: frozenset[str], folder: Path, stem: str, shift: Any) -> Any:
        self.made += 1
        if self.refuse:
            raise self.refuse.pop()
        path = folder / stem
        path.write_text(",".join(sorted(keep_float)))
        return (path,)


class FakeFormat:
    """Alpha is the image's first channel, off by 0.01 for each frame that a state has lived."""

    @staticmethod
    def open(files: tuple[Path, ...], mode: str) -> Any:
        def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            state = inputs.get("state", np.zeros((1, 1, 1, 1), np.float32))
            return {"alpha": inputs["image"][:, :1] + state, "next": state + np.float32(0.01)}

        return SimpleNamespace(run=run, close=lambda: None)


def _case(name: str, follows: bool = False) -> Case:
    image = np.full((1, 3, 8, 8), 0.5, np.float32)
    inputs = {"image": image, "state": np.zeros((1, 1, 1, 1), np.float32)}
    return Case(name, np.zeros((8, 8, 3), np.uint8), inputs, image[:, :1], {}, {"state": "next"} if follows else {})


def _judge(tool: FakeTool, cases: list[Case], cache: ResultCache | None = None) -> PlanJudge:
    return PlanJudge(FakeFormat, tool, (), (), {}, {}, cases, "state", cache)  # type: ignore[arg-type]


def test_a_plan_is_judged_once_in_a_run_and_once_for_a_cache(tmp_path: Path) -> None:
    tool, cache = FakeTool(), ResultCache(tmp_path)
    first = _judge(tool, [_case("a")], cache)
    plan = frozenset({"x"})

    score = first.score(plan)
    assert (first.score(plan), tool.made) == (score, 1)

    again = _judge(tool, [_case("a")], cache)
    assert (again.score(plan), tool.made, again.sizes) == (score, 1, first.sizes)


def test_a_refused_plan_scores_none_and_is_remembered(tmp_path: Path) -> None:
    tool, cache = FakeTool([PlanRefused("no")]), ResultCache(tmp_path)

    assert _judge(tool, [_case("a")], cache).score(frozenset()) is None
    assert _judge(tool, [_case("a")], cache).score(frozenset()) is None
    assert tool.made == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ConversionError("a weight is infinite")])
def test_another_failure_is_raised_and_never_remembered(error: Exception, tmp_path: Path) -> None:
    tool, cache = FakeTool([error]), ResultCache(tmp_path)

    with pytest.raises(type(error)):
        _judge(tool, [_case("a")], cache).score(frozenset())
    assert _judge(tool, [_case("a")], cache).score(frozenset()) is not None


def test_a_frame_that_follows_another_is_fed_the_files_own_state() -> None:
    film = [_case("a"), _case("a, second frame", follows=True), _case("a, frame 3", follows=True)]

    score = _judge(FakeTool(), film).score(frozenset())

    assert score is not None
    assert (score.max_abs, score.worst) == (pytest.approx(0.02), "a, frame 3")
