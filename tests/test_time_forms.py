"""Forms are loaded anew several times and run in turns; a GPU's row is refused."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mobile_matting_export.announce import Part
from mobile_matting_export.cli.main import run
from mobile_matting_export.errors import UsageError
from mobile_matting_export.parity import Case
from mobile_matting_export.targets import TARGETS, Target, find_target
from mobile_matting_export.time_forms import FormsToTime, require_cpu, time_forms_here

FRAME = {"image": np.zeros((1, 3, 4, 4), np.float32)}


class Session:
    """Works for as many milliseconds as its file says."""

    device = "cpu"
    opened: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, files: tuple[Path, ...], accelerator: str) -> None:
        assert accelerator == "cpu"
        self.name, self.work = files[0].name, float(files[0].read_text()) / 1e3
        self.opened.append(self.name)

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        assert inputs is FRAME
        until = time.process_time() + self.work
        while time.process_time() < until:
            pass
        return {}

    def close(self) -> None:
        self.closed.append(self.name)


def test_times_are_those_of_each_form_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "opened", [])
    monkeypatch.setattr(Session, "closed", [])
    target = find_target("onnx")
    row: Target = replace(target, format=replace(target.format, open=Session))
    forms = {}
    for name, milliseconds in (("short", 1), ("long", 3)):
        (tmp_path / name).write_text(str(milliseconds))
        forms[name] = (tmp_path / name,)
    case = Case("frame", np.zeros((4, 4, 3), np.uint8), FRAME, np.zeros((1, 1, 4, 4), np.float32))
    said: list[str] = []

    times = time_forms_here(FormsToTime(row, "fp32", forms, case, (), (), 0), said.append)

    short, long = times["short"], times["long"]
    assert all(isinstance(message, Part) for message in said) and said[0] == "timing the forms short, long in turns"
    assert len(short) == len(long) >= 20
    assert min(short) >= 1 and min(long) >= 3
    assert np.median(short) < 2 < np.median(long)
    assert sorted(Session.opened) == sorted(Session.closed)
    assert Session.opened.count("short") == Session.opened.count("long") >= 3


def test_a_gpu_is_not_judged_by_this_computer() -> None:
    for target in TARGETS:
        if target.accelerator == "cpu":
            require_cpu(target)
        else:
            with pytest.raises(UsageError, match=f"says nothing about the GPU that {target.name} is for"):
                require_cpu(target)


def test_command_line_refuses_it_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "--target", "tflite-gpu", "--autotune"]) == 2
    assert "leave --autotune away" in capsys.readouterr().err
