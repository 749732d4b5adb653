"""Reports with their verdicts, as the gate's outputs (table, JSON, JUnit, markdown) take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from android_bench.gate import INCONCLUSIVE, Budget, Verdict, gravest_outcome, judge_result
from android_bench.report import ReportUnreadable, read_report


@dataclass(frozen=True)
class Entry:
    """One artifact on one device; or, with an empty ``result``, the one sentence about what is no measurement."""

    title: str
    result: Mapping[str, Any]
    verdict: Verdict

    @property
    def is_measured(self) -> bool:
        """Whether there is something to show in a table; else its reasons are whole sentences, one."""
        return bool(self.result)


@dataclass(frozen=True)
class Judged:
    """One report. ``source`` is its file, ``device`` what people call the device."""

    source: str
    device: str
    entries: tuple[Entry, ...]

    @property
    def outcome(self) -> str:
        """The gravest of its entries."""
        return gravest_outcome([entry.verdict.outcome for entry in self.entries])

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "report": self.source,
            "device": self.device,
            "results": [
                {
                    "artifact": entry.result.get("artifact"),
                    "title": entry.title,
                    "latency_ms": entry.result.get("latency_ms"),
                    "verdict": entry.verdict.verdict,
                    "outcome": entry.verdict.outcome,
                    "reasons": list(entry.verdict.reasons),
                }
                for entry in self.entries
            ],
        }


def judge_report(report: Mapping[str, Any], source: str, budget: Budget | None) -> Judged:
    """Judge every result of a report; one without results is inconclusive."""
    device = report["device"]
    named = " ".join(str(device[key]) for key in ("model", "serial") if device.get(key) not in (None, "", "unknown"))
    entries = tuple(
        Entry(str(result.get("title") or result.get("artifact") or "?"), result, judge_result(result, budget))
        for result in report["results"]
    )
    if not entries:
        entries = (Entry(source, {}, Verdict(INCONCLUSIVE, (f"{source} holds no measurement: measure again",))),)
    return Judged(source, named or "unknown device", entries)


def judge_files(paths: Sequence[Path], budget: Budget) -> list[Judged]:
    """Judge stored reports; one that is missing or foreign does not pass, and does not hide the others."""
    judged = []
    for path in paths:
        try:
            judged.append(judge_report(read_report(path), str(path), budget))
        except ReportUnreadable as error:
            entry = Entry(str(path), {}, Verdict("unreadable", (str(error),)))
            judged.append(Judged(str(path), "unknown device", (entry,)))
    return judged


def overall(judged: Sequence[Judged]) -> Verdict:
    """The gravest verdict of all reports, with the reasons of all that have it.

    What is less grave is not in the reasons: tables and ``told_reasons`` show it.
    """
    outcome = gravest_outcome([report.outcome for report in judged])
    reasons = [
        reason
        for report in judged
        for entry in report.entries
        if entry.verdict.outcome == outcome
        for reason in told_reasons(report, entry)
    ]
    return Verdict(outcome, tuple(reasons))


def told_reasons(report: Judged, entry: Entry) -> list[str]:
    """An entry's reasons as they stand alone: artifact and device before each, unless nothing was measured."""
    before = f"{entry.title} on {report.device}: " if entry.is_measured else ""
    return [f"{before}{reason}" for reason in entry.verdict.reasons]


def measured_only(judged: Sequence[Judged]) -> list[Judged]:
    """What tables show: the reports that hold a measurement."""
    return [report for report in judged if any(entry.is_measured for entry in report.entries)]


def unmeasured(judged: Sequence[Judged]) -> list[tuple[str, str]]:
    """(outcome, sentence) of every file and phone without a measurement, such as a file that is no report."""
    return [
        (entry.verdict.outcome, reason)
        for report in judged
        for entry in report.entries
        if not entry.is_measured
        for reason in entry.verdict.reasons
    ]
