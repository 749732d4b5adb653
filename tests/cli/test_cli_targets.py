"""``mmexport targets``: the rows, and with ``-v`` the limits that artifacts are held to."""

from __future__ import annotations

import json

import pytest

from mobile_matting_export.cli.main import run
from mobile_matting_export.targets import TARGETS


def test_every_target_is_listed_with_its_rewrites(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["targets"]
    assert [row["name"] for row in rows] == [target.name for target in TARGETS]
    for row, target in zip(rows, TARGETS, strict=True):
        assert [rewrite["name"] for rewrite in row["rewrites"]] == [rewrite.name for rewrite in target.rewrites]
        assert {precision: limit["mad"] for precision, limit in row["limits"].items()} == {
            precision: limit.mad for precision, limit in target.limits.items()
        }


def test_limits_are_shown_when_asked_for_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets"]) == 0
    assert "largest MAD" not in capsys.readouterr().out
    assert run(["targets", "-v"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.partition("Limits of")[2].splitlines()]
    for target in TARGETS:
        for precision, limit in target.limits.items():
            assert [target.name, precision, f"{limit.max_abs:g}", f"{limit.mad:g}"] in lines
