"""Error statistics: what they are, and what they must not accept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest

from mobile_matting_export.errors import QualityError
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.network import load_network
from mobile_matting_export.parity import Case, compare_graphs, compare_mattes, judge_files, make_cases
from mobile_matting_export.targets import FP16, Limits


def matte(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, 1, -1)


def test_statistics_are_over_all_frames_and_name_the_worst() -> None:
    stats = compare_mattes(["a", "b"], [matte(0, 1), matte(0, 0.5)], [matte(0, 1), matte(0.25, 0.5)])
    assert stats.images == 2
    assert stats.max_abs == 0.25
    assert stats.mad == 0.0625
    assert stats.psnr_db == pytest.approx(10 * math.log10(1 / (0.0625 / 4)))
    assert stats.worst == "b"


def test_equal_mattes_have_infinite_psnr() -> None:
    assert compare_mattes(["a"], [matte(0, 1)], [matte(0, 1)]).psnr_db == math.inf


def test_matte_of_another_shape_is_refused_although_it_would_broadcast() -> None:
    with pytest.raises(QualityError, match=r"\(1, 1, 1, 1\) on a"):
        compare_mattes(["a"], [matte(0, 0)], [matte(0)])


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_alpha_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(QualityError, match=r"beyond \[0, 1\]"):
        compare_mattes(["a"], [matte(0, 0)], [matte(0, value)])


def test_nan_is_within_no_limits_and_its_frame_is_the_worst() -> None:
    stats = compare_mattes(["a", "b"], [matte(0), matte(0)], [matte(0.5), matte(math.nan)])
    assert stats.worst == "b"
    assert not stats.within(Limits(math.inf, math.inf))
    assert not stats.within(FP16)


def test_bundled_cases_are_photographs_and_drawings() -> None:
    cases = make_cases(load_network("ldn_fb"))
    assert [case.name for case in cases] == ["astronaut.jpg", "president.jpg", "drawn-0", "drawn-1"]
    for case in cases:
        assert case.inputs["image"].shape == (1, 3, 128, 128)
        assert case.alpha.shape == (1, 1, 128, 128)
        assert 0 <= case.alpha.min() <= case.alpha.max() <= 1


class Adds:
    """A session whose alpha and new state are ``step`` more than the state it is given."""

    device = "here"

    def __init__(self, step: float) -> None:
        self.step = step

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"alpha": inputs["hidden"] + self.step, "next_hidden": 10 * (inputs["hidden"] + self.step)}

    def close(self) -> None:
        pass


def test_an_artifact_gets_its_own_state_back_and_is_judged_by_it() -> None:
    picture = np.zeros((1, 1, 3), np.uint8)
    first = Case("a", picture, {"hidden": matte(0)}, matte(0.1), {"next_hidden": matte(1)})
    # the network's own state was 1; the artifact's is 10 * 0.02, its error counts in units of 10
    second = Case(
        "b", picture, {"hidden": matte(1)}, matte(0.22), {"next_hidden": matte(10)}, {"hidden": "next_hidden"}
    )
    opened = dataclasses.replace(TFLITE, open=lambda files, mode: Adds(0.02))

    verdict, mattes = judge_files(opened, (), "cpu", [first, second], Limits(0.3, 0.3))

    assert [float(each.max()) for each in mattes] == pytest.approx([0.02, 0.22])
    assert verdict.stats.max_abs == pytest.approx(0.08)
    (state,) = verdict.stats.states
    assert (state.name, state.max_abs, state.mad) == ("next_hidden", pytest.approx(0.78), pytest.approx(0.43))
    assert not verdict.passed, "alpha is within its limits, the state is not"
    assert verdict.stats.within(Limits(0.79, 0.44))


def test_a_graph_is_compared_in_all_its_results() -> None:
    case = Case("a", np.zeros((1, 1, 3), np.uint8), {"x": matte(0.5)}, matte(0.5), {"next_x": matte(0.25)})
    stats = compare_graphs(lambda x: (x, x), [case])
    assert stats.max_abs == 0 and stats.states[0].max_abs == 0.25
