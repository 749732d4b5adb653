"""Marks lie where their numbers say, within the box, and ticks are round."""

from __future__ import annotations

import pytest

from mobile_matting_export.report.plot_trade_off import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Mark,
    even_ticks,
    log_ticks,
    plot_trade_off,
)

MARKS = [Mark(0, 0.2, False, False, "all"), Mark(3, 0.009, True, True, "taken"), Mark(31, 1e-8, True, False, "none")]


def test_more_cost_lies_to_the_right_and_less_error_below() -> None:
    plot = plot_trade_off(MARKS, 0.01, str)
    places = {mark["told"]: (mark["x"], mark["y"]) for mark in plot["marks"]}
    assert places["all"][0] < places["taken"][0] < places["none"][0]
    assert places["all"][1] < plot["limit"] < places["taken"][1] < places["none"][1]
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in places.values())


def test_errors_far_below_the_limit_lie_on_the_lowest_line_and_that_is_told() -> None:
    plot = plot_trade_off(MARKS, 0.01, str)
    assert plot["cut"] and max(mark["y"] for mark in plot["marks"]) == HEIGHT - BOTTOM
    assert not plot_trade_off(MARKS[:2], 0.01, str)["cut"]


def test_the_plan_taken_is_drawn_above_the_others() -> None:
    assert plot_trade_off(MARKS, 0.01, str)["marks"][-1]["told"] == "taken"


@pytest.mark.parametrize("edge", [None, 40.0, 20.0])
def test_the_edge_and_every_mark_are_within_the_box(edge: float | None) -> None:
    plot = plot_trade_off(MARKS, None, str, edge)
    assert max(mark["x"] for mark in plot["marks"]) <= WIDTH - RIGHT
    assert plot["limit"] is None and (plot["edge"] is None) == (edge is None)


def test_equal_or_zero_values_do_not_divide_by_zero() -> None:
    same = [Mark(0, 0.0, True, True, "a"), Mark(0, 0.0, True, False, "b")]
    assert len(plot_trade_off(same, None, str)["marks"]) == 2


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [(32.0, [0, 10, 20, 30]), (6.0, [0, 2, 4, 6]), (130_000.0, [0, 50_000, 100_000]), (5.0, [0, 1, 2, 3, 4, 5])],
)
def test_ticks_across_are_round_and_few(largest: float, ticks: list[float]) -> None:
    assert even_ticks(largest) == ticks


def test_ticks_upward_are_1_2_and_5() -> None:
    assert log_ticks(0.0011, 0.03) == [0.002, 0.005, 0.01, 0.02]
