from __future__ import annotations

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.budget import DEFAULT, parse_budget
from mobile_matting_export.quantization.score import Score

SCORE = Score(mad_band=0.004, mad=0.001, worst_band=0.01, psnr=34.0, max_abs=0.2, worst="a.jpg")


def test_the_measure_nearest_to_its_limit_counts() -> None:
    assert parse_budget(DEFAULT).use(SCORE) == pytest.approx(0.4)
    assert parse_budget("mad_band=0.01,mad=0.002").use(SCORE) == pytest.approx(0.5)
    assert parse_budget("max_abs=0.1").use(SCORE) == pytest.approx(2.0)


def test_decibels_count_as_a_ratio_of_errors_the_other_way_round() -> None:
    assert parse_budget("psnr=34").use(SCORE) == pytest.approx(1.0)
    assert parse_budget("psnr=40").use(SCORE) == pytest.approx(10 ** (6 / 20))
    assert parse_budget("psnr=28").use(SCORE) < 1


def test_the_search_stops_before_the_limit_and_further_from_it_for_what_one_picture_decides() -> None:
    assert parse_budget("mad=0.001").strain(SCORE) == pytest.approx(1 / 0.9)
    assert parse_budget("max_abs=0.2").strain(SCORE) == pytest.approx(1 / 0.7)
    assert parse_budget("mad=0.001,max_abs=0.2").strain(SCORE) == pytest.approx(1 / 0.7)


def test_a_budget_is_written_as_it_is_read() -> None:
    assert str(parse_budget("mad_band = 0.01, psnr=30")) == "mad_band=0.01,psnr=30"


@pytest.mark.parametrize("text", ["", "mad", "mad=", "mad=-1", "mad=nan", "mad=inf", "sad=1", "mad=0.1,,psnr=3"])
def test_what_cannot_be_read_says_what_can(text: str) -> None:
    with pytest.raises(UsageError, match="measures are mad_band, mad, worst_band, max_abs, psnr"):
        parse_budget(text)


def test_a_measure_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="gives mad twice"):
        parse_budget("mad=0.1,mad=0.2")
