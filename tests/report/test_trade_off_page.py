"""The page draws every artifact that was timed and compared, and says what was not."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from report.test_int8_section import point
from test_trade_off import make_artifact, make_scored

from mobile_matting_export.errors import UsageError
from mobile_matting_export.report.trade_off_page import require_page_place, write_trade_off_page
from mobile_matting_export.trade_off import ArtifactRow, DeviceLatencies, Latency, TradeOff


def make_int8(**changes: Any) -> dict[str, Any]:
    held = {"mad_band": 0.0085, "used": 0.85}
    points = [point(0, 0.2), point(3, 0.0085, chosen=True), point(15, 0.004)]
    found = {"budget": {"mad_band": 0.01}, "held_out": held, "macs_int8": 0.94, "points": points}
    return found | changes


def make_rows(**changes: Any) -> tuple[ArtifactRow, ...]:
    return (
        ArtifactRow("tflite-cpu fp32", make_artifact("a"), make_scored(6e-8, 2e-6)),
        ArtifactRow(
            "tflite-cpu int8",
            make_artifact("b", precision="int8", quantization=make_int8(**changes)),
            make_scored(0.009),
        ),
        ArtifactRow("onnx fp32", make_artifact("c", target="onnx"), None, "the checkpoint net.pt is not there"),
    )


PHONE = DeviceLatencies(
    "Demo 8, serial R5CX",
    "bench.json",
    "2026-11-29",
    (Latency(30.0, 31.5, "cpu x4"), Latency(12.0, 12.5, "cpu x4", doubts=("noisy: by 20 %",)), None),
    ("measured from adb shell",),
)


def write(path: Path, trade_off: TradeOff) -> str:
    write_trade_off_page(path / "page.html", trade_off)
    return (path / "page.html").read_text(encoding="utf-8")


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<(style|title).*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)).split())


def test_the_page_has_the_figures_of_every_artifact(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_rows(), (PHONE,)))
    text = words(html)
    for told in (
        "Trade-off: net",
        "tflite-cpu fp32 30.00 / 31.50 cpu x4 400 kB < 0.000001",
        "tflite-cpu int8 12.00 / 12.50 ? cpu x4 400 kB 0.009 cpu (XNNPACK) 0.0045 <first>.jpg 0.018 40.0 dB",
        "0.018 40.0 dB 94 % 85 % mad_band=0.01",
        "file size MAD in the band MAD worst picture",
        "share of the quality budget",
        "onnx fp32 not measured 400 kB not compared",
        "onnx fp32 was not compared: the checkpoint net.pt is not there",
        "Demo 8, serial R5CX , bench.json, 2026-11-29. measured from adb shell.",
        "tflite-cpu int8: noisy: by 20 %",
        "on 4 frames",
    ):
        assert told in text, told
    assert "&lt;first&gt;" in html and "<first>" not in html


def test_what_was_timed_and_compared_is_drawn_and_a_doubtful_time_is_hollow(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_rows(points=[]), (PHONE, PHONE)))
    assert html.count("<h3>latency, Demo 8, serial R5CX (bench.json)</h3>") == 2
    assert html.count("milliseconds a frame</text>") == 2
    # two artifacts in each of the two latency plots and in that of sizes
    assert len(re.findall(r'<circle class="spot', html)) == 6 and html.count('class="spot int8 unsure"') == 2
    assert "tflite-cpu int8: p50 12.00 ms, p90 12.50 ms (of frames) on cpu x4, 400 kB, MAD in the band 0.009" in html


def test_a_p90_of_launches_is_not_called_one_of_frames(tmp_path: Path) -> None:
    ncnn = DeviceLatencies("Demo 8", "ncnn.json", "", (Latency(30.0, 30.4, "cpu x4", "launches"), None, None))
    html = write(tmp_path, TradeOff("net", make_rows(), (ncnn,)))
    text = words(html)
    assert "30.00 / 30.40 cpu x4, of launches" in text and "p90 30.40 ms (of launches) on cpu x4" in html
    assert "the 90th percentile over the launches" in text and "90 % of the frames keep" not in text
    both = words(write(tmp_path, TradeOff("net", make_rows(), (PHONE, ncnn))))
    assert "the 90th percentile over the launches" in both and "90 % of the frames keep" in both


def test_plans_are_drawn_over_counted_arithmetic_and_that_is_said(tmp_path: Path) -> None:
    text = words(write(tmp_path, TradeOff("net", make_rows(), (PHONE,))))
    assert "tflite-cpu int8: 3 plans" in text and "counted, not timed" in text
    assert "multiply-adds in float, counted" in text
    alone = words(write(tmp_path, TradeOff("net", make_rows(points=[point(0, 0.002, chosen=True)]), (PHONE,))))
    assert "Plans of the int8 search" not in alone


def test_only_differences_that_can_be_seen_are_shown(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_rows(), (PHONE,)))
    assert html.count("data:image/png;base64") == 4
    assert "cannot show any difference: tflite-cpu fp32." in words(html)


def test_without_latency_size_is_left(tmp_path: Path) -> None:
    html = write(tmp_path, TradeOff("net", make_rows(), ()))
    assert "milliseconds" not in html and "size of the files" in html and "p50" not in words(html)
    bare = tuple(ArtifactRow(one.label, one.artifact, None, "no weights") for one in make_rows(points=[]))
    assert "<svg" not in write(tmp_path, TradeOff("net", bare, (PHONE,)))


def test_the_same_values_give_the_same_page(tmp_path: Path) -> None:
    pages = [write(tmp_path, TradeOff("net", make_rows(), (PHONE,))) for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_place_for_no_page_is_refused_before_and_nothing_is_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    for place, says in ((tmp_path, "it is a folder"), (file / "page.html", f"{file} is a file")):
        with pytest.raises(UsageError, match=rf"cannot write {place}: {says}; choose another --html"):
            require_page_place(place)
    new = tmp_path / "new"
    for place in (new / "page.html", new / "deeper" / "page.html"):
        with pytest.raises(UsageError, match=rf"cannot write {place}: there is no folder {place.parent}; choose"):
            require_page_place(place)
    require_page_place(file)
    require_page_place(tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "kept"


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another --html"):
        write_trade_off_page(tmp_path, TradeOff("net", make_rows(), ()))


def test_plots_beside_each_other_have_one_range_of_errors(tmp_path: Path) -> None:
    one = DeviceLatencies("Demo 9", "b.json", "", (None, Latency(12.0, 12.5, "cpu x4"), None))
    html = write(tmp_path, TradeOff("net", make_rows(points=[]), (PHONE, one)))
    ticks = [re.findall(r'y="([^"]*)" text-anchor="end">([0-9][^<]*)</text>', plot) for plot in html.split("<svg")[1:]]
    assert len(ticks) == 3 and ticks[0] and ticks[0] == ticks[1] == ticks[2]


def test_artifacts_of_different_sizes_are_not_drawn_without_a_word(tmp_path: Path) -> None:
    small = ArtifactRow("tflite-cpu fp32 32x48", make_artifact("d", 32), make_scored(0.0))
    text = words(write(tmp_path, TradeOff("net", (*make_rows(), small), ())))
    assert "Note: The artifacts take pictures of different sizes, 64x48 and 32x48. Each error is against" in text
    assert "different sizes" not in words(write(tmp_path, TradeOff("net", make_rows(), ())))


def test_a_name_stays_whole_and_what_is_long_may_go_on_in_the_next_line(tmp_path: Path) -> None:
    device = "vulkan: llvmpipe (LLVM 15.0.6, 256 bits), fp16 arithmetic"
    first, *others = make_rows()
    assert first.scored is not None
    named = ArtifactRow(f"{first.label} 64x48", first.artifact, replace(first.scored, device=device))
    html = write(tmp_path, TradeOff("net", (named, *others), (PHONE,)))
    assert '<td class="name">tflite-cpu fp32<br><span class="device">64x48</span></td>' in html
    assert f'<span class="soft device">{device}</span>' in html
    assert "tflite-cpu fp32 64x48 30.00 / 31.50" in words(html)
