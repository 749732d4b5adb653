"""Artifacts lie where their numbers say, and their names can be read."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from mobile_matting_export.report.plot_artifacts import Spot, plot_artifacts
from mobile_matting_export.report.plot_trade_off import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

# of one letter, as a browser draws 12 pixels of a common font: less than the layout reckons with
LETTER, LINE = 7.0, 12


def spot(label: str, x: float, y: float, end: float = 0.0) -> Spot:
    return Spot(x, max(x, end), y, label, "int8", True, f"{label} told")


def plot(spots: list[Spot]) -> dict[str, Any]:
    return plot_artifacts(spots, [one.y for one in spots], str)


def areas(plot: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    """left, top, right, bottom of every name."""
    found = []
    for mark in plot["marks"]:
        width, name = LETTER * len(mark["label"]), mark["name"]
        left = name["x"] if name["side"] == "start" else name["x"] - width
        found.append((left, name["y"] - 4 - LINE / 2, left + width, name["y"] - 4 + LINE / 2))
    return found


def within(area: tuple[float, float, float, float]) -> bool:
    left, top, right, low = area
    return left >= LEFT and right <= WIDTH - RIGHT and top >= 0 and low <= HEIGHT


def test_dearer_lies_to_the_right_and_nearer_to_the_network_below() -> None:
    made = plot([spot("a", 10, 1e-2, 12), spot("b", 20, 1e-4)])
    fast, slow = made["marks"]
    assert LEFT < fast["x"] < fast["end"] < slow["x"] == slow["end"] < WIDTH - RIGHT
    assert TOP < fast["y"] < slow["y"] < HEIGHT - BOTTOM
    assert (fast["tooltip"], fast["kind"], fast["sure"]) == ("a told", "int8", True)
    assert not made["cut"] and len(made["up"]) >= 3 and made["across"][0]["words"] == "0.0"


def test_plots_of_the_same_errors_have_the_same_axis_up() -> None:
    one, other = spot("a", 10, 1e-2), spot("b", 20, 3e-5)
    left, right = (plot_artifacts([each], [one.y, other.y], str) for each in (one, other))
    both = plot([one, other])
    assert left["up"] == right["up"] == both["up"] != plot([one])["up"]
    assert [each["marks"][0]["y"] for each in (left, right)] == [mark["y"] for mark in both["marks"]]


def test_rounding_of_float32_lies_on_the_lowest_line_and_that_is_told() -> None:
    made = plot([spot("fp32", 10, 6e-8), spot("fp16", 10, 4e-5)])
    assert made["cut"] and made["marks"][0]["y"] == HEIGHT - BOTTOM
    assert plot([spot("equal", 10, 0.0)])["marks"][0]["y"] == HEIGHT - BOTTOM


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
    placed = areas(plot(spots))
    for one, two in combinations(placed, 2):
        assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
    assert all(within(area) for area in placed)


@pytest.mark.parametrize("at", [0.1, 15.0, 30.0])
def test_no_name_leaves_the_frame_where_there_is_no_room(at: float) -> None:
    crowd = [spot(f"ncnn-cpu fp16 {number}", at, 1e-3) for number in range(60)]
    assert all(within(area) for area in areas(plot([*crowd, spot("dearest", 30.0, 1e-3)])))


def test_a_name_that_no_frame_holds_keeps_its_end() -> None:
    label = f"tflite-cpu fp32 {'folder/' * 12}int8"
    (mark,) = (made := plot([spot(label, 10, 1e-3)]))["marks"]
    assert mark["label"].startswith("…") and label.endswith(mark["label"][1:]) and label in mark["tooltip"]
    assert all(within(area) for area in areas(made))
