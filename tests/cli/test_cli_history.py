"""``history`` on the command line: table, JSON, page, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from android_bench.keep_history import append_history
from mobile_matting_export.cli.main import run


def test_a_history_is_shown_and_plotted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = tmp_path / "h.jsonl", tmp_path / "h.html"
    line = {"device": "R5CX", "title": "net a", "p50": 20.0, "p90": None, "verdict": "pass"}
    append_history(path, [line | {"date": "2026-02-01"}, line | {"date": "2026-01-01"}])
    with path.open("a") as file:
        file.write("damaged\n")
    assert run(["history", str(path), "--plot", str(page), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [entry["date"] for entry in told["results"]] == ["2026-01-01", "2026-02-01"] and told["unreadable"] == 1
    assert "1 of 3 lines" in err and page.read_text().count("<circle") == 2
    assert run(["history", str(path), "-q"]) == 0
    assert "20.00 ms" in capsys.readouterr().out
    assert run(["history", str(tmp_path / "none")]) == 2
