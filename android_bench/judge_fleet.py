"""The verdict of a fleet: its gravest, with the reasons of all that have it."""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.bench_fleet import Member
from android_bench.gate import Budget, Verdict
from android_bench.judged import Entry, Judged, judge_report, overall


def judge_member(member: Member, budget: Budget | None) -> Judged:
    """Judge one phone's report; without one the error is its only entry (``unreadable``, exit code 2)."""
    if member.report is not None:
        return judge_report(member.report, member.serial, budget)
    entry = Entry(member.serial, {}, Verdict("unreadable", (f"{member.serial}: {member.error}",)))
    return Judged(member.serial, member.serial, (entry,))


def judge_fleet(judged: Sequence[Judged]) -> Verdict:
    """The gravest outcome of all phones and artifacts, in the order of ``gate.EXIT_CODES``; see ``overall``."""
    return overall(judged)
