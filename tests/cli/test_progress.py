"""Progress on a stderr that is no terminal: a line a step, and of many steps only some."""

from __future__ import annotations

import pytest

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
