"""Error statistics: what they are, and what they must not accept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mobile_matting_export.errors import QualityError
from mobile_matting_export.network import load_network
from mobile_matting_export.parity import compare_mattes, make_cases
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
