"""Devices x artifacts: one cell for each, from judged reports; as data, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from android_bench.gate import PASS, Budget
from android_bench.judged import Entry, Judged

OUTCOME_WORDS = {
    "pass": "pass",
    "fail": "FAIL",
    "quality": "FAIL (alpha)",
    "inconclusive": "inconclusive",
    "lost": "device lost",
    "unreadable": "no report",
}
"""Outcome -> what people read."""


@dataclass(frozen=True)
class Matrix:
    """``cells[row][column]`` is the entry of ``devices[row]`` and ``artifacts[column]``; None: not measured there."""

    devices: tuple[str, ...]
    artifacts: tuple[str, ...]
    cells: tuple[tuple[Entry | None, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: milliseconds; ``outcome`` says more than ``verdict``: lost and quality, too."""
        rows = [[None if entry is None else _cell(entry) for entry in row] for row in self.cells]
        return {"devices": list(self.devices), "artifacts": list(self.artifacts), "cells": rows}


def build_matrix(judged: Sequence[Judged]) -> Matrix:
    """Arrange reports: a row each, in their order; a column for each artifact, in the order of first appearance.

    Artifacts are the same when their folders are; two of one title are told apart by their folders.
    """
    keyed = [{_key(entry): entry for entry in report.entries} for report in judged]
    titles = {key: entry.title for row in keyed for key, entry in row.items()}
    common = [title for title in titles.values() if list(titles.values()).count(title) > 1]
    names = tuple(f"{title} ({key})" if title in common else title for key, title in titles.items())
    cells = tuple(tuple(row.get(key) for key in titles) for row in keyed)
    return Matrix(tuple(report.device for report in judged), names, cells)


def cell_words(entry: Entry | None, budget: Budget | None) -> str:
    """p90, which the gate judges by, and the verdict: ``12.30 ms pass``; the time alone where nothing was asked for."""
    if entry is None:
        return "not measured"
    p90 = (entry.result.get("latency_ms") or {}).get("p90")
    time = f"{p90:.2f} ms" if isinstance(p90, (int, float)) else ""
    word = "" if budget is None and entry.verdict.outcome == PASS else OUTCOME_WORDS[entry.verdict.outcome]
    return " ".join(filter(None, [time, word])) or "?"


def _cell(entry: Entry) -> dict[str, Any]:
    latency = entry.result.get("latency_ms") or {}
    times = {name: latency.get(name) for name in ("p50", "p90", "ci95")}
    return times | {"verdict": entry.verdict.verdict, "outcome": entry.verdict.outcome}


def _key(entry: Entry) -> str:
    return str(entry.result.get("artifact") or entry.title)
