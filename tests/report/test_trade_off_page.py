"""The page draws every artifact that was timed and compared, and says what was not."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from report.test_int8_section import point
from test_trade_off import make_artifact, make_scored

from mobile_matting_export.errors import UsageError
from mobile_matting_export.report.trade_off_page import write_trade_off_page
from mobile_matting_export.trade_off import Clocked, Entry, Latency, TradeOff


def make_int8(**changes: Any) -> dict[str, Any]:
    held = {"mad_band": 0.0085, "used": 0.85}
    points = [point(0, 0.2), point(3, 0.0085, chosen=True), point(15, 0.004)]
    found = {"budget": {"mad_band": 0.01}, "held_out": held, "macs_int8": 0.94, "points": points}
    return found | changes


def make_entries(**changes: Any) -> tuple[Entry, ...]:
    return (
        Entry("tflite-cpu fp32", make_artifact("a"), make_scored(6e-8, 2e-6)),
        Entry(
            "tflite-cpu int8",
            make_artifact("b", precision="int8", quantization=make_int8(**changes)),
            make_scored(0.009),
        ),
        Entry("onnx fp32", make_artifact("c", target="onnx"), None, "the checkpoint net.pt is not there"),
    )


PHONE = Clocked(
    "Demo 8, serial R5CX",
    "bench.json",
    "2026-11-29",
    (Latency(30.0, 31.5, "cpu x4"), Latency(12.0, 12.5, "cpu x4", ("noisy: by 20 %",)), None),
    ("measured from adb shell",),
)


def write(path: Path, trade_off: TradeOff) -> str:
    write_trade_off_page(path / "page.html", trade_off)
    return (path / "page.html").read_text(encoding="utf-8")


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<(style|title).*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)).split())


def test_the_page_has_the_figures_of_every_artifact(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_entries(), (PHONE,)))
    text = words(html)
    for told in (
        "Trade-off: net",
        "tflite-cpu fp32 30.00 / 31.50 cpu x4 400 kB < 0.000001",
        "tflite-cpu int8 12.00 / 12.50 ? cpu x4 400 kB 0.009 0.0045 <first>.jpg 0.018 40.0 dB 94 % 85 % mad_band=0.01",
        "onnx fp32 not measured 400 kB not compared",
        "onnx fp32 was not compared: the checkpoint net.pt is not there",
        "Demo 8, serial R5CX , bench.json, 2026-11-29. measured from adb shell.",
        "tflite-cpu int8: noisy: by 20 %",
        "on 4 frames",
    ):
        assert told in text, told
    assert "&lt;first&gt;" in html and "<first>" not in html


def test_what_was_timed_and_compared_is_drawn_and_a_doubtful_time_is_hollow(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_entries(points=[]), (PHONE, PHONE)))
    assert html.count("milliseconds a frame, Demo 8, serial R5CX</text>") == 2
    # two artifacts in each of the two latency plots and in that of sizes
    assert len(re.findall(r'<circle class="spot', html)) == 6 and html.count('class="spot int8 unsure"') == 2
    assert "tflite-cpu int8: p50 12.00 ms, p90 12.50 ms on cpu x4, 400 kB, MAD in the band 0.009" in html


def test_plans_are_drawn_over_counted_arithmetic_and_that_is_said(tmp_path: Path) -> None:
    text = words(write(tmp_path, TradeOff("net", make_entries(), (PHONE,))))
    assert "tflite-cpu int8: 3 plans" in text and "counted, not timed" in text
    assert "multiply-adds in float, counted" in text
    alone = words(write(tmp_path, TradeOff("net", make_entries(points=[point(0, 0.002, chosen=True)]), (PHONE,))))
    assert "Plans of the int8 search" not in alone


def test_only_differences_that_can_be_seen_are_shown(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_entries(), (PHONE,)))
    assert html.count("data:image/png;base64") == 4
    assert "cannot show any difference: tflite-cpu fp32." in words(html)


def test_without_latency_size_is_left(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_entries(), ()))
    assert "milliseconds" not in html and "size of the files" in html and "p50" not in words(html)
    bare = tuple(Entry(one.label, one.artifact, None, "no weights") for one in make_entries(points=[]))
    assert "<svg" not in write(tmp_path, TradeOff("net", bare, (PHONE,)))


def test_the_same_values_give_the_same_page(tmp_path: Path) -> None:
    pages = [write(tmp_path, TradeOff("net", make_entries(), (PHONE,))) for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another --html"):
        write_trade_off_page(tmp_path, TradeOff("net", make_entries(), ()))
