from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.cli.read_int8_wish import read_int8_wish
from mobile_matting_export.errors import UsageError


def test_the_budget_is_on_without_any_flag() -> None:
    wish = read_int8_wish("int8", None, None, None, None)

    assert (dict(wish.budget.limits), wish.calibration, wish.method, wish.recipe) == (
        {"mad_band": 0.01},
        None,
        None,
        None,
    )


def test_flags_are_read() -> None:
    wish = read_int8_wish("int8", "pictures", "mad=0.002,psnr=30", "mse", None)

    assert (dict(wish.budget.limits), wish.calibration, wish.method) == (
        {"mad": 0.002, "psnr": 30},
        Path("pictures"),
        "mse",
    )


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("precision", [None, "fp16", "w8"])
def test_flags_of_int8_are_refused_for_other_precisions(precision: str | None, place: int) -> None:
    given: list = [None] * 4
    given[place] = ["pictures", "mad=0.1", "mse", "recipe.toml"][place]
    flag = ["--calibration", "--quality-budget", "--ranges", "--recipe"][place]

    with pytest.raises(UsageError, match=f"{flag} is for --precision int8"):
        read_int8_wish(precision, *given)


def test_tuning_is_for_int8_and_not_beside_a_recipe() -> None:
    assert read_int8_wish("int8", None, None, None, None, 2.5).tune_minutes == 2.5
    with pytest.raises(UsageError, match="--tune is for --precision int8"):
        read_int8_wish("fp16", None, None, None, None, 2.5)
    with pytest.raises(UsageError, match="--recipe and --tune contradict each other"):
        read_int8_wish("int8", None, None, None, "recipe.toml", 2.5)


def test_8_bit_ends_are_for_int8_and_not_beside_a_recipe() -> None:
    assert read_int8_wish("int8", None, None, None, None).wanted_io == "float"
    assert read_int8_wish("int8", None, None, None, None, io="uint8").wanted_io == "uint8"
    with pytest.raises(UsageError, match="--io is for --precision int8"):
        read_int8_wish("fp16", None, None, None, None, io="int8")
    with pytest.raises(UsageError, match="--recipe and --io contradict each other"):
        read_int8_wish("int8", None, None, None, "recipe.toml", io="int8")


def test_a_recipe_and_ranges_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="contradict each other"):
        read_int8_wish("int8", None, None, "mse", "recipe.toml")
