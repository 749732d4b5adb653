"""Artifacts lie where their numbers say, and their names can be read."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from mobile_matting_export.report.plot_artifacts import Spot, plot_artifacts
from mobile_matting_export.report.plot_trade_off import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

# of one letter, as a browser draws 12 pixels of a common font: less than the layout reckons with
LETTER, LINE = 6.2, 12


def spot(label: str, x: float, y: float, end: float = 0.0) -> Spot:
    return Spot(x, max(x, end), y, label, "int8", True, f"{label} told")


def areas(plot: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    """left, top, right, bottom of every name."""
    found = []
    for mark in plot["marks"]:
        width, name = LETTER * len(mark["label"]), mark["name"]
        left = name["x"] if name["side"] == "start" else name["x"] - width
        found.append((left, name["y"] - 4 - LINE / 2, left + width, name["y"] - 4 + LINE / 2))
    return found


def test_dearer_lies_to_the_right_and_nearer_to_the_network_below() -> None:
    plot = plot_artifacts([spot("a", 10, 1e-2, 12), spot("b", 20, 1e-4)], str)
    fast, slow = plot["marks"]
    assert LEFT < fast["x"] < fast["end"] < slow["x"] == slow["end"] < WIDTH - RIGHT
    assert TOP < fast["y"] < slow["y"] < HEIGHT - BOTTOM
    assert (fast["tooltip"], fast["kind"], fast["sure"]) == ("a told", "int8", True)
    assert not plot["cut"] and len(plot["up"]) >= 3 and plot["across"][0]["words"] == "0.0"


def test_rounding_of_float32_lies_on_the_lowest_line_and_that_is_told() -> None:
    plot = plot_artifacts([spot("fp32", 10, 6e-8), spot("fp16", 10, 4e-5)], str)
    assert plot["cut"] and plot["marks"][0]["y"] == HEIGHT - BOTTOM
    assert plot_artifacts([spot("equal", 10, 0.0)], str)["marks"][0]["y"] == HEIGHT - BOTTOM


@pytest.mark.parametrize(
    "spots",
    [
        [spot(f"tflite-cpu fp{number}", 13.3 + number / 20, 5e-5) for number in range(6)],
        [spot(f"ncnn-vulkan fp{number}", 13.3, 7e-8, 19) for number in range(6)],
        [spot("left", 0.1, 1e-3), spot("right of all others", 30, 1e-3), spot("the middle", 29, 1.1e-3)],
    ],
    ids=["as fast and as near", "on the lowest line", "at both ends"],
)
def test_no_name_lies_on_another_or_leaves_the_plot(spots: list[Spot]) -> None:
    placed = areas(plot_artifacts(spots, str))
    for one, two in combinations(placed, 2):
        assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
    assert all(left >= LEFT and right <= WIDTH and top >= 0 and low <= HEIGHT for left, top, right, low in placed)
