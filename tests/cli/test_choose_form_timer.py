"""Where --autotune times: here for CPUs, on the phone that is named; what cannot be is refused at once."""

from __future__ import annotations

import pytest

from mobile_matting_export.cli.choose_form_timer import choose_form_timer
from mobile_matting_export.cli.main import run
from mobile_matting_export.targets import find_target
from mobile_matting_export.time_forms import HOST_TIMER

CPU = (find_target("tflite-cpu"), find_target("ncnn-cpu"))


@pytest.mark.parametrize("device", [None, "host"])
def test_this_computer_times_rows_for_cpus(device: str | None) -> None:
    assert choose_form_timer(device, CPU) is HOST_TIMER


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-t", "ncnn-cpu", "--device", "host"], 2, "give --autotune, or leave --device away"),
        (["-t", "tflite-gpu", "--autotune"], 2, "name a phone with --device"),
        (["-t", "tflite-gpu", "--autotune", "--device", "host"], 2, "name a phone with --device"),
        (["-t", "onnx", "--autotune", "--device", "nobody"], 2, "no phone runner for onnx"),
        (["-t", "ncnn-cpu", "--autotune", "--device", "nobody"], 6, "nobody"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_any_work(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobile_matting_export.network.load_network", None)
    assert run(["convert", *arguments]) == code
    assert words in capsys.readouterr().err
