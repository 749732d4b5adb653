"""The table says what was timed on what, over what, and on what the error was computed."""

from __future__ import annotations

import io

from report.test_trade_off_page import PHONE, make_rows
from rich.console import Console

from mobile_matting_export.cli.show_trade_off import show_trade_off
from mobile_matting_export.trade_off import DeviceLatencies, Latency, TradeOff

NCNN = DeviceLatencies("Demo 8", "ncnn.json", "", (Latency(30.0, 30.4, "gpu x4", "launches"), None, None))


def show(*devices: DeviceLatencies) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(show_trade_off(TradeOff("net", make_rows(), devices)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
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
