"""A history of results: one JSON object a line, appended whole or not at all, by several programs at once if need be.

{"date", "device", "model", "artifact", "title", "sha256", "accelerator", "threads", "p50", "p90", "ci95", "min_fps",
"verdict"}: milliseconds; times are null where nothing was measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from android_bench.errors import RequestError
from android_bench.gate import PASS, Budget, judge_result
from android_bench.report import finite


def history_lines(report: Mapping[str, Any], budget: Budget | None) -> list[dict[str, Any]]:
    """A line for each result of a report. ``verdict``: the outcome's word; ``measured`` where no rate was asked for."""
    device = report["device"]
    lines = []
    for result in report["results"]:
        latency = result.get("latency_ms") or {}
        outcome = judge_result(result, budget).outcome
        lines.append(
            {
                "date": report.get("date"),
                "device": device.get("serial"),
                "model": device.get("model"),
                "artifact": result.get("artifact"),
                "title": result.get("title"),
                "sha256": result.get("sha256"),
                "accelerator": result.get("accelerator"),
                "threads": result.get("threads"),
                "p50": latency.get("p50"),
                "p90": latency.get("p90"),
                "ci95": latency.get("ci95"),
                "min_fps": None if budget is None else budget.min_fps,
                "verdict": "measured" if budget is None and outcome == PASS else outcome,
            }
        )
    return lines


def append_history(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Append ``lines`` under a lock; a line that another program left unfinished is closed first.

    Raises:
        RequestError: the place is not writable, or full: the file is then as it was.
    """
    import fcntl  # not everywhere, and only here: bench itself works without

    if not lines:
        return
    text = "".join(json.dumps(finite(line), ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                text = text if file.read(1) == b"\n" else b"\n" + text
            try:
                if file.write(text) != len(text):
                    raise OSError(0, "no space left")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read_history(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines in order of their dates, and how many were unreadable (a program that died while writing).

    Raises:
        RequestError: no such file, or nothing in it is a history.
    """
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}; `mmexport bench --history` makes it") from None
    lines = [line for text in texts if text.strip() and (line := _parse(text)) is not None]
    unreadable = sum(1 for text in texts if text.strip()) - len(lines)
    if not lines:
        raise RequestError(f"{path} holds no history: `mmexport bench --history {path}` appends to it")
    return sorted(lines, key=lambda line: str(line["date"])), unreadable


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"date", "device", "p50", "verdict"} <= set(line) else None
