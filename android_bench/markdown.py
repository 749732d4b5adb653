"""A summary for a CI page, in markdown, from judged reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from android_bench.fleet_matrix import OUTCOME_WORDS, build_matrix, cell_words
from android_bench.gate import PASS, Budget, Verdict
from android_bench.judged import Entry, Judged, measured_only, overall, unmeasured
from android_bench.unknown import UNKNOWN

_WORDS = {outcome: words if outcome == PASS else f"**{words}**" for outcome, words in OUTCOME_WORDS.items()} | {
    "measured": "measured"
}
_HEAD = "| artifact | device | accelerator | p50 ms | p90 ms | 95 % of p90 | FPS at p50 | alpha error | verdict |"
_RULE = "|---|---|---|---:|---:|---|---:|---:|---|"


def markdown_summary(judged: Sequence[Judged], budget: Budget | None, verdict: Verdict | None = None) -> str:
    """Title with the verdict, a table with a row an artifact and device, and why what did not pass did not.

    A file or phone without a measurement has a sentence instead of a row.

    Several reports: devices x artifacts before it. ``verdict``: of them all; None: ``overall``.
    """
    verdict = verdict or overall(judged)
    asked = "" if budget is None else f" at {budget.min_fps:g} FPS ({budget.frame_ms:.1f} ms)"
    word = "measured" if budget is None and verdict.outcome == PASS else verdict.outcome
    lines = [f"## mmexport bench{asked}: {_WORDS[word].strip('*')}", ""]
    shown = measured_only(judged)
    if len(shown) > 1:
        lines += [*_matrix(shown, budget), ""]
    if shown:
        lines += [_HEAD, _RULE]
        lines += [_row(entry, report.device, budget) for report in shown for entry in report.entries]
        lines.append("")
    # a file that is no report has no row of question marks, but a sentence
    remarks = [f"- **{OUTCOME_WORDS[outcome]}**: {_cell(sentence)}" for outcome, sentence in unmeasured(judged)]
    remarks += [
        f"- {_cell(entry.title)} on {_cell(report.device)}: {_cell(remark)}"
        for report in shown
        for entry in report.entries
        for remark in _remarks(entry)
    ]
    return "\n".join([*lines, *remarks, *([""] if remarks else [])])


def _matrix(judged: Sequence[Judged], budget: Budget | None) -> list[str]:
    matrix = build_matrix(judged)
    rows = [
        [_cell(device), *(cell_words(entry, budget) for entry in cells)]
        for device, cells in zip(matrix.devices, matrix.cells, strict=True)
    ]
    head = ["p90 and verdict", *map(_cell, matrix.artifacts)]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _row(entry: Entry, device: str, budget: Budget | None) -> str:
    result = entry.result
    latency = result.get("latency_ms") or {}
    interval = latency.get("ci95") or [None, None]
    accelerator = str(result.get("accelerator") or "?")
    if (proved := result.get("accelerator_proved")) is not True:
        accelerator += " (not told)" if proved == UNKNOWN else " (not proved)"
    parity = result.get("parity") or {}
    cells = (
        _cell(entry.title),
        _cell(device),
        accelerator,
        _number(latency.get("p50"), ".2f"),
        _number(latency.get("p90"), ".2f"),
        f"{_number(interval[0], '.2f')} to {_number(interval[1], '.2f')}",
        _number(result.get("fps"), ".1f"),
        _number(parity.get("max_abs"), ".1e") if parity else "not checked",
        _WORDS[verdict_word(entry, budget)],
    )
    return f"| {' | '.join(cells)} |"


def verdict_word(entry: Entry, budget: Budget | None) -> str:
    """The outcome of an entry; where no frame rate was asked for there is nothing to pass."""
    return "measured" if budget is None and entry.verdict.outcome == PASS else entry.verdict.outcome


def _remarks(entry: Entry) -> list[str]:
    reasons = [] if entry.verdict.outcome == PASS else list(entry.verdict.reasons)
    return reasons + [str(warning) for warning in entry.result.get("warnings") or []]


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else "?"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
