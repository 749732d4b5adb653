"""The worst frame is shown so that its difference is seen."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.parity import Case
from mobile_matting_export.report.show_worst import show_worst


def worst(error: float) -> tuple[Case, np.ndarray]:
    alpha = np.zeros((1, 1, 64, 64), np.float32)
    alpha[..., 16:48, 16:48] = 1
    matte = alpha.copy()
    matte[..., 16, 16:48] -= error
    return Case("first.jpg", np.zeros((90, 60, 3), np.uint8), {}, alpha), matte


@pytest.mark.parametrize(("error", "factor"), [(0.15, 5), (0.009, 100), (0.6, 1), (0.0, 100)])
def test_the_difference_is_amplified_as_far_as_it_stays_below_white(error: float, factor: int) -> None:
    shown = show_worst(*worst(error), ImageSpec())
    assert (shown["name"], shown["factor"]) == ("first.jpg", factor)
    assert float(shown["max_abs"]) == pytest.approx(error, abs=1e-6)


def test_a_matte_that_is_no_number_is_white_in_the_difference() -> None:
    case, matte = worst(0.15)
    shown = show_worst(case, np.full_like(matte, np.nan), ImageSpec())
    assert (shown["max_abs"], shown["factor"]) == ("no number", 1)
