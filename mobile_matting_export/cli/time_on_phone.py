"""Times artifacts on a phone for ``fit``: the protocol and the verdicts of ``bench``, a lost phone ends it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact import Artifact
from mobile_matting_export.cli.bench_jobs import RUNTIMES
from mobile_matting_export.cli.bench_run import make_jobs, make_request, with_defaults
from mobile_matting_export.cli.list_runners import runners_folder
from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:
    from android_bench.gate import Budget
    from mobile_matting_export.fit import Timer
    from mobile_matting_export.targets import Target
    from mobile_matting_export.time_here import Timing


def phone_timer(serial: str, target: Target, flags: Mapping[str, Any], announce: Announce) -> Timer:
    """A timer that measures on the phone ``serial``; ``flags`` are those of ``mmexport bench`` by parameter name.

    Phone and runner are looked for at once, before the conversions that a missing one would waste.

    Raises:
        UsageError: the target has no phone runner. BenchError: no such phone, no runner.
    """
    chosen = with_defaults(flags)
    require_phone(serial, target, chosen)

    def time_on_phone(artifacts: Sequence[Artifact], min_fps: float) -> list[Timing]:
        from android_bench.gate import Budget
        from android_bench.session import bench

        budget = Budget(min_fps)
        request = make_request(serial, chosen, budget)
        with tempfile.TemporaryDirectory(prefix="mmexport-frames-") as folder:
            jobs = make_jobs(artifacts, serial, chosen, Path(folder), announce)
            report, error = bench(jobs, request, lambda message: announce(Part(message)))
        if error is not None:
            raise error
        return [_timing(result, budget) for result in report["results"]]

    return time_on_phone


def require_phone(serial: str, target: Target, flags: Mapping[str, Any]) -> Path:
    """The runner for ``target``'s files; ``flags`` are whole, see ``bench_run.with_defaults``.

    Raises:
        UsageError: the target has no phone runner. BenchError: no such phone, no runner.
    """
    from android_bench.adb import find_phone
    from android_bench.find_program import find_program

    runtime = target.format.name
    if runtime not in RUNTIMES:
        raise UsageError(
            f"target {target.name} cannot be timed on a phone: there is no phone runner for {runtime}, only for "
            f"{' and '.join(RUNTIMES)}; --device host times it on this machine"
        )
    find_phone(serial, server=flags["adb_server"])
    given = None if flags["runner"] is None else Path(flags["runner"])
    return find_program(runtime, given, flags["runner_name"], runners_folder()).path


def _timing(result: Mapping[str, Any], budget: Budget) -> Timing:
    """What ``gate`` would say of one result; the time is what it judges by, p90."""
    from android_bench.gate import FAIL, PASS, judge_result
    from mobile_matting_export.time_here import FAST, INCONCLUSIVE, SLOW, WRONG, Timing

    verdict = judge_result(result, budget)
    latency = result["latency_ms"]
    outcome = {PASS: FAST, FAIL: SLOW, "quality": WRONG}.get(verdict.outcome, INCONCLUSIVE)
    reason = "; ".join(verdict.reasons) if outcome in (INCONCLUSIVE, WRONG) else ""
    return Timing(None if latency is None else latency["p90"], outcome, reason)
