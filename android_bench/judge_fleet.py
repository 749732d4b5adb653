"""The verdict of a fleet: its gravest, with the reasons of all that have it."""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.bench_fleet import Member
from android_bench.gate import EXIT_CODES, FAIL, INCONCLUSIVE, PASS, Budget, Verdict
from android_bench.judged import Entry, Judged, judge_report

GRAVEST_FIRST = ("lost", "unreadable", "quality", FAIL, INCONCLUSIVE, PASS)
"""Whose exit code a fleet ends with: a phone that said nothing leaves a hole in the matrix, which hides the worst."""


def judge_member(member: Member, budget: Budget | None) -> Judged:
    """Judge one phone's report; without one the error is its only entry (``unreadable``, exit code 2)."""
    if member.report is not None:
        return judge_report(member.report, member.serial, budget)
    entry = Entry(member.serial, {}, Verdict("unreadable", (str(member.error),)))
    return Judged(member.serial, member.serial, (entry,))


def judge_fleet(judged: Sequence[Judged]) -> Verdict:
    """The gravest outcome of all phones and artifacts, in the order of ``GRAVEST_FIRST``.

    A phone's outcomes that are less grave are not in the reasons: the matrix shows them.
    """
    entries = [(report, entry) for report in judged for entry in report.entries]
    outcome = min((entry.verdict.outcome for _, entry in entries), key=GRAVEST_FIRST.index)
    reasons = [
        f"{entry.title} on {report.device}: {reason}"
        for report, entry in entries
        if entry.verdict.outcome == outcome
        for reason in entry.verdict.reasons
    ]
    assert outcome in EXIT_CODES
    return Verdict(outcome, tuple(reasons))
