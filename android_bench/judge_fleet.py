"""The verdict of a fleet: its gravest, with the reasons of all that have it."""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.bench_fleet import Member
from android_bench.gate import Budget, Verdict, gravest_outcome
from android_bench.judged import Entry, Judged, judge_report


def judge_member(member: Member, budget: Budget | None) -> Judged:
    """Judge one phone's report; without one the error is its only entry (``unreadable``, exit code 2)."""
    if member.report is not None:
        return judge_report(member.report, member.serial, budget)
    entry = Entry(member.serial, {}, Verdict("unreadable", (str(member.error),)))
    return Judged(member.serial, member.serial, (entry,))


def judge_fleet(judged: Sequence[Judged]) -> Verdict:
    """The gravest outcome of all phones and artifacts, in the order of ``gate.EXIT_CODES``.

    A phone's outcomes that are less grave are not in the reasons: the matrix shows them.
    """
    entries = [(report, entry) for report in judged for entry in report.entries]
    outcome = gravest_outcome([entry.verdict.outcome for _, entry in entries])
    reasons = [
        f"{entry.title} on {report.device}: {reason}"
        for report, entry in entries
        if entry.verdict.outcome == outcome
        for reason in entry.verdict.reasons
    ]
    return Verdict(outcome, tuple(reasons))
