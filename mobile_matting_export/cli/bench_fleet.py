"""``mmexport bench`` on several phones: which ones, where each report goes, and the result of them all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.cli.bench_output import finish
from mobile_matting_export.cli.bench_run import HOST, make_jobs, make_request, with_defaults
from mobile_matting_export.cli.common import Output
from mobile_matting_export.cli.place_report import report_paths
from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:
    from android_bench.bench_fleet import Member
    from android_bench.gate import Budget, Verdict
    from android_bench.judged import Judged

FLEET_SCHEMA = "mmexport.fleet/1"


def bench_on_fleet(
    artifacts: Sequence[Artifact],
    serials: Sequence[str],
    flags: Mapping[str, Any],
    budget: Budget | None,
    output: Output,
) -> None:
    """Measure on every phone of ``serials`` at once (none: all that adb sees), store, print, end with the worst code.

    Raises:
        BenchError: no phone at all, or no runner. UsageError: what was asked cannot be.
    """
    from android_bench.adb import list_devices
    from android_bench.bench_fleet import bench_fleet
    from android_bench.errors import NoDevice, RequestError
    from android_bench.judge_fleet import judge_fleet, judge_member

    if HOST in serials:
        raise UsageError("--device host beside phones: driving them takes this computer's cores; bench it by itself")
    # before any thread: it starts the adb server, once
    seen = list_devices(server=flags["adb_server"])
    # one that is not usable is named too: nothing is left out in silence
    named = list(dict.fromkeys(serials or [device.serial for device in seen]))
    if not named:
        raise NoDevice("--all-devices: adb sees no device; connect phones with USB debugging on (`adb devices -l`)")
    paths = report_paths(flags["report"], named)
    chosen = with_defaults(flags)
    requests = [make_request(serial, chosen, budget) for serial in named]
    written: dict[str, str | None] = dict.fromkeys(named)

    unwritten: list[RequestError] = []

    def keep(member: Member) -> None:
        try:
            written[member.serial] = _store(member, paths.get(member.serial), flags["history"], budget)
        except RequestError as error:  # the other phones go on
            unwritten.append(error)

    steps = len(named) * len(artifacts) * (requests[0].plan.launches + 1)
    with tempfile.TemporaryDirectory(prefix="mmexport-frames-") as folder, output.progress(steps) as announce:
        jobs = make_jobs(artifacts, None, chosen, Path(folder), announce)
        members = bench_fleet(jobs, requests, announce, keep)
    if unwritten:
        raise unwritten[0]
    for member in members:
        if member.error is not None:
            output.detail(f"{member.serial}: {member.error}\n{member.error.evidence}".rstrip())
    judged = [
        replace(judge_member(member, budget), source=written[member.serial] or member.serial) for member in members
    ]
    verdict = judge_fleet(judged)
    result = _result(members, judged, written, budget, verdict)
    finish(output, judged, budget, dict(flags) | {"report": None}, result, verdict)


def _store(member: Member, path: Path | None, history: str | None, budget: Budget | None) -> str | None:
    """Write a phone's report and its lines of the history; returns the report's file."""
    from android_bench.keep_history import append_history, history_lines
    from android_bench.report import write_report

    if member.report is None:
        if path is not None:
            path.unlink(missing_ok=True)  # an older one would be taken for this one
        return None
    if path is not None:
        write_report(path, member.report)
    if history:
        append_history(Path(history), history_lines(member.report, budget))
    return None if path is None else str(path)


def _result(
    members: Sequence[Member],
    judged: Sequence[Judged],
    written: Mapping[str, str | None],
    budget: Budget | None,
    verdict: Verdict,
) -> dict[str, Any]:
    from android_bench.fleet_matrix import build_matrix

    return {
        "schema": FLEET_SCHEMA,
        "min_fps": None if budget is None else budget.min_fps,
        "budget_ms": None if budget is None else budget.frame_ms,
        "verdict": verdict.verdict,
        "outcome": verdict.outcome,
        "reasons": list(verdict.reasons),
        "matrix": build_matrix(judged).as_dict(),
        "devices": [
            {
                "serial": member.serial,
                "file": written[member.serial],
                "error": None if member.error is None else str(member.error),
                "report": member.report,
            }
            for member in members
        ],
    }
