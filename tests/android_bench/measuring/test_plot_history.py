"""The page has a chart a device and a point a result, and needs nothing from elsewhere."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

from android_bench.plot_history import HEIGHT, WIDTH, plot_history


def line(date: str, ms: float | None, **changed: Any) -> dict[str, Any]:
    told = {"date": date, "device": "R5CX", "title": "net a", "accelerator": "gpu", "threads": 4, "p50": ms}
    interval = None if ms is None else [ms - 1, ms + 1]
    return told | {"ci95": interval, "min_fps": 30, "verdict": "pass"} | changed


def charts(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_a_chart_a_device_and_a_point_a_result() -> None:
    days = [f"2026-01-0{day}T10:00:00+00:00" for day in range(1, 5)]
    lines = [line(day, 20 + number) for number, day in enumerate(days)]
    lines += [line(days[0], 30, title="net b", verdict="fail"), line(days[1], 9, device="<b>", model="Demo")]
    page = plot_history(lines)
    first, second = charts(page)
    assert len(first.findall(".//circle")) == 5 and len(second.findall(".//circle")) == 1
    polyline = first.find(".//polyline")
    assert polyline is not None
    xs, ys = zip(*(map(float, pair.split(",")) for pair in polyline.attrib["points"].split()), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys, reverse=True), "slower is higher"
    gaps = [after - before for before, after in pairwise(xs)]
    assert max(gaps) - min(gaps) < 0.3, "a day is as wide as any other, to the rounding of 0.1"
    assert all(0 <= float(point.attrib["cx"]) <= WIDTH for point in first.iter("circle"))
    assert all(0 <= float(point.attrib["cy"]) <= HEIGHT for point in first.iter("circle"))
    assert [point.attrib["fill"] for point in first.iter("circle")].count("Canvas") == 1
    assert "33.3 ms" in page and "<h2>Demo &lt;b&gt;</h2>" in page
    assert "http" not in page and "<script" not in page


def test_what_has_no_time_is_told() -> None:
    page = plot_history([line("2026-01-01", None, verdict="lost"), line("some day", 20)])
    assert not charts(page) and "2026-01-01: net a, gpu x4: lost" in page and "some day: net a, gpu x4: pass" in page
