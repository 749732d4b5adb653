"""The table says what was timed on what, over what, and on what the error was computed."""

from __future__ import annotations

import io
from dataclasses import replace

from report.test_trade_off_page import PHONE, make_rows
from rich.console import Console
from test_trade_off import make_artifact, make_scored

from mobile_matting_export.cli.show_trade_off import show_trade_off
from mobile_matting_export.trade_off import ArtifactRow, DeviceLatencies, Latency, TradeOff

NCNN = DeviceLatencies("Demo 8", "ncnn.json", "", (Latency(30.0, 30.4, "gpu x4", "launches"), None, None))


def render(trade_off: TradeOff, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(show_trade_off(trade_off))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def show(*devices: DeviceLatencies, rows: tuple[ArtifactRow, ...] | None = None) -> str:
    text = render(TradeOff("net", rows or make_rows(), devices), 400)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_each_row_says_what_its_time_and_its_error_are_of() -> None:
    head, fp32, int8, onnx, *remarks = show(PHONE, NCNN).splitlines()
    assert head == (
        "artifact p50 / p90 in ms, Demo 8, serial R5CX p50 / p90 in ms, Demo 8 file size MAD in the band MAD "
        "worst picture, its MAD in the band lowest PSNR error computed on share of the quality budget"
    )
    assert fp32.startswith("tflite-cpu fp32 30.00 / 31.50, cpu x4 30.00 / 30.40 of launches, gpu x4 0.40 MB 6e-08")
    assert fp32.endswith("40.0 dB cpu (XNNPACK)")
    assert int8.startswith("tflite-cpu int8 12.00 / 12.50, cpu x4 ? not measured 0.40 MB 0.009")
    assert int8.endswith("cpu (XNNPACK) 85 % of mad_band=0.01")
    assert onnx == "onnx fp32 not measured not measured 0.40 MB not compared"
    assert "onnx fp32 is not compared: the checkpoint net.pt is not there" in remarks
    assert "? tflite-cpu int8 on Demo 8, serial R5CX: noisy: by 20 %" in remarks


def test_what_p90_is_is_said_for_what_was_timed() -> None:
    frames, launches = "what 90 % of the frames keep", "the 90th percentile over the launches"
    assert frames in show(PHONE) and launches not in show(PHONE)
    assert frames not in show(NCNN) and launches in show(NCNN)
    assert "p90" not in show()


def test_the_budget_is_said_to_be_held_on_other_pictures() -> None:
    assert "The budget was held on other pictures" in show(PHONE)
    assert "budget" not in show(rows=make_rows()[:1])


def test_artifacts_of_different_sizes_are_not_shown_without_a_word() -> None:
    small = ArtifactRow("tflite-cpu fp32 32x48", make_artifact("d", 32), make_scored(0.0))
    assert "of different sizes, 64x48 and 32x48" in show(rows=(*make_rows(), small))
    assert "sizes" not in show(PHONE)


def test_in_a_narrow_terminal_nothing_is_cut_and_names_of_artifacts_stay_whole() -> None:
    reports = (replace(PHONE, source="/a/long/way/to/a_bench_of_the_morning.json"), replace(PHONE, source="b/eve.json"))
    text = render(TradeOff("net", make_rows(), reports), 80)
    assert "\u2026" not in text and "/a/long" not in text
    for row in make_rows():
        assert any(line.startswith(f"{row.label} ") for line in text.splitlines()), row.label
