"""The interval is that of theory where theory knows it, the same every time, and respects groups."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_matting_export.bootstrap import interval


def test_the_width_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(3).normal(10, 2, 400)
    low, high = interval(list(values))
    expected = 1.96 * values.std() / np.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(expected, rel=0.06)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.02)


def test_the_same_values_give_the_same_interval() -> None:
    assert interval([1.0, 2.0, 5.0]) == interval([1.0, 2.0, 5.0])


def test_repeated_pictures_of_one_person_do_not_narrow_it() -> None:
    persons = [1.0, 2.0, 5.0, 3.0]
    repeated, groups = persons * 10, list("abcd") * 10
    assert interval(repeated, groups) == pytest.approx(interval(persons))
    low, high = interval(repeated)
    assert high - low < 0.5 * np.subtract(*interval(persons)[::-1])


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_one_value_is_its_own_interval(groups: list[str] | None) -> None:
    assert interval([0.25], groups) == (0.25, 0.25)
