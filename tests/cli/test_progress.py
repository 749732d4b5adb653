"""Progress on a stderr that is no terminal: a line a step, and of many steps only some."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys

import pytest

from mobile_matting_export.announce import Part
from mobile_matting_export.cli.common import Output


def lines_of(total: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with Output("text", 0).progress(total) as announce:
        for step in range(1, total + 1):
            announce(f"step {step}")
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("total", [1, 2, 40])
def test_few_steps_are_all_said(total: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(total, capsys) == [f"step {step}" for step in range(1, total + 1)]


@pytest.mark.parametrize("total", [41, 100, 3600])
def test_many_steps_fit_a_log_and_the_last_is_said(total: int, capsys: pytest.CaptureFixture[str]) -> None:
    said = lines_of(total, capsys)
    assert len(said) <= 41
    assert (said[0], said[-1]) == ("step 1", f"step {total}")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Output("text", -1).progress(2) as announce:
        announce("step 1")
    assert capsys.readouterr().err == ""


def test_parts_are_no_steps_and_all_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Output("text", 0).progress(100) as announce:
        for step in range(1, 101):
            announce(f"step {step}")
            announce(Part(f"half of {step}", 1, 2))
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("half")] == [f"half of {step}" for step in range(1, 101)]
    assert [line for line in said if line.startswith("step")][-1] == "step 100"


ON_A_TERMINAL = """
import time
from mobile_matting_export.announce import Part
from mobile_matting_export.cli.common import Output
with Output("text", 0).progress(3) as announce:
    announce("first")
    announce(Part("warning: [/few] pictures"))
    announce("second")
    announce(Part("measuring [/tmp/a]", 7, 9))
    time.sleep(0.5)
    announce(Part("bisecting"))
    time.sleep(0.5)
"""


def test_on_a_terminal_a_part_has_its_own_bar_and_warnings_stay() -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = ""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                shown += part.decode(errors="replace")
        assert process.wait() == 0
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert lines.count("warning: [/few] pictures") == 1  # a line of its own, that no bar overwrites
    assert any("1/3 second" in line for line in lines)
    assert any("7/9 measuring [/tmp/a]" in line for line in lines)
    assert [line for line in lines if "bisecting" in line and "/9" not in line and "?" not in line]
