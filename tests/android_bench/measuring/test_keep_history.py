"""A line per result, whole or not at all, whoever else writes; damaged lines are counted and hide nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from android_bench import keep_history
from android_bench.device import Device, DeviceState
from android_bench.errors import RequestError
from android_bench.gate import Budget
from android_bench.keep_history import append_history, history_lines, read_history
from android_bench.report import build_report


def result(ms: float, **changed: Any) -> dict[str, Any]:
    latency = {"p50": ms, "p90": ms + 1, "ci95": [ms - 0.1, ms + 0.1]}
    launches = [{"median_ms": ms + step / 10, "p90_ms": ms + 1 + step / 10} for step in range(7)]
    told = {"artifact": "build/a", "title": "a", "sha256": "f" * 64, "accelerator": "gpu", "threads": 4}
    return told | {"accelerator_proved": True, "latency_ms": latency, "launches": launches} | changed


def line(date: str, **changed: Any) -> dict[str, Any]:
    return {"date": date, "device": "R5CX", "p50": 1.0, "verdict": "pass"} | changed


def test_a_line_says_what_the_report_says() -> None:
    report = build_report(Device("R5CX", model="Demo 8"), DeviceState(), None, [result(20)], Budget(30))
    (told,) = history_lines(report, Budget(30))
    assert told["date"] == report["date"] and told["date"].endswith("+00:00")
    assert told["device"] == "R5CX" and told["model"] == "Demo 8" and told["sha256"] == "f" * 64
    assert (told["p50"], told["p90"], told["ci95"], told["verdict"]) == (20, 21, [19.9, 20.1], "pass")
    assert history_lines(report, None)[0]["verdict"] == "measured"
    lost = build_report(Device("R5CX"), DeviceState(), None, [result(1, lost="gone", latency_ms=None)], None)
    assert (history_lines(lost, None)[0]["verdict"], history_lines(lost, None)[0]["p50"]) == ("lost", None)


def test_lines_are_appended_and_read_by_date(tmp_path: Path) -> None:
    path = tmp_path / "new" / "h.jsonl"
    append_history(path, [line("2026-02-01"), line("2026-03-01", p50=float("nan"))])
    append_history(path, [line("2026-01-01")])
    append_history(path, [])
    lines, unreadable = read_history(path)
    assert [entry["date"] for entry in lines] == ["2026-01-01", "2026-02-01", "2026-03-01"] and unreadable == 0
    assert lines[2]["p50"] is None and path.read_bytes().endswith(b"}\n")


def test_an_unfinished_line_is_closed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(json.dumps(line("2026-01-01")) + '\n{"date": "2026-')
    append_history(path, [line("2026-02-01")])
    lines, unreadable = read_history(path)
    assert len(lines) == 2 and unreadable == 1


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"

    def write(name: int) -> None:
        for _ in range(20):
            append_history(path, [line("2026-01-01", device=f"{name}" * 2000)] * 3)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines, unreadable = read_history(path)
    assert len(lines) == 240 and unreadable == 0


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h.jsonl"
    append_history(path, [line("2026-01-01")])
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keep_history.os, "fsync", full)
    with pytest.raises(RequestError, match="No space left"):
        append_history(path, [line("2026-02-01")])
    assert path.read_bytes() == before


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"a": 1}\n')
    with pytest.raises(RequestError, match="holds no history"):
        read_history(tmp_path / "other")
    with pytest.raises(RequestError, match="cannot be read"):
        read_history(tmp_path / "none")
    with pytest.raises(RequestError, match="cannot write"):
        append_history(tmp_path / "other" / "h", [line("2026-01-01")])
