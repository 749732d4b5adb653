"""Times files on a phone for ``fit`` and ``convert --autotune``: the protocol of ``bench``; a lost phone ends it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact import Artifact, describe_files
from mobile_matting_export.cli.bench_jobs import RUNTIMES
from mobile_matting_export.cli.bench_run import make_jobs, make_request, with_defaults
from mobile_matting_export.cli.list_runners import runners_folder
from mobile_matting_export.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from android_bench.gate import Budget
    from mobile_matting_export.fit import Timer
    from mobile_matting_export.targets import Target
    from mobile_matting_export.time_forms import Contest, FormTimer
    from mobile_matting_export.time_here import Timing


def phone_timer(serial: str, target: Target, flags: Mapping[str, Any], announce: Announce) -> Timer:
    """A timer that measures on the phone ``serial``; ``flags`` are those of ``mmexport bench`` by parameter name.

    Phone and runner are looked for at once, before the conversions that a missing one would waste.

    Raises:
        UsageError: the target has no phone runner. BenchError: no such phone, no runner.
    """
    chosen = with_defaults(flags)
    _require_phone(serial, target, chosen)

    def time_on_phone(artifacts: Sequence[Artifact], min_fps: float) -> list[Timing]:
        from android_bench.gate import Budget

        budget = Budget(min_fps)
        return [_timing(result, budget) for result in _bench(serial, artifacts, chosen, budget, announce)]

    return time_on_phone


def phone_form_timer(serial: str, targets: Sequence[Target]) -> FormTimer:
    """A timer of forms on the phone ``serial``, with the defaults of ``mmexport bench``: threads, launches, runner.

    Raises:
        UsageError: a target has no phone runner. BenchError: no such phone, no runner.
    """
    from mobile_matting_export.time_forms import FormTimer

    # alphas are verified here already, and the same for all forms up to rounding
    chosen = with_defaults({"alpha": "skip"})
    for target in targets:
        _require_phone(serial, target, chosen)
    request = make_request(serial, chosen, None)

    def time_on_phone(contest: Contest, announce: Announce) -> list[list[float]]:
        from android_bench.gate import doubts_about
        from android_bench.stats import launch_value

        forms = [_as_artifact(contest, number) for number in range(len(contest.forms))]
        results = _bench(serial, forms, chosen, None, lambda message: announce(Part(message)))
        for result in results:
            if doubts := doubts_about(result):
                raise InconclusiveError(
                    f"--autotune has no time of {contest.target.name} on {serial} that can be defended: {doubts[0]}. "
                    "Mend that, or leave --autotune away"
                )
        return [[launch_value(launch) or math.inf for launch in result["launches"]] for result in results]

    unit = f"ms of a frame on {serial}, {request.threads} threads, the median of a launch"
    return FormTimer(f"phone {serial}, {request.threads} threads", unit, time_on_phone)


def _require_phone(serial: str, target: Target, flags: Mapping[str, Any]) -> None:
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
    find_program(runtime, given, flags["runner_name"], runners_folder())


def _bench(
    serial: str,
    artifacts: Sequence[Artifact],
    flags: Mapping[str, Any],
    budget: Budget | None,
    announce: Announce,
) -> list[dict[str, Any]]:
    from android_bench.session import bench

    request = make_request(serial, flags, budget)
    with tempfile.TemporaryDirectory(prefix="mmexport-frames-") as folder:
        report, error = bench(make_jobs(artifacts, serial, flags, Path(folder), announce), request, announce)
    if error is not None:
        raise error
    results: list[dict[str, Any]] = report["results"]
    return results


def _as_artifact(contest: Contest, number: int) -> Artifact:
    """Files of a form with what ``bench`` reads of a manifest; they lie in no folder that ``convert`` made."""
    target, files = contest.target, contest.forms[number]
    folder = files[0].parent
    limits = target.limits[contest.precision]
    return Artifact(
        folder,
        {
            "network": {"name": f"form {number}"},
            "target": target.name,
            "precision": contest.precision,
            "accelerator": target.accelerator,
            "inputs": list(contest.inputs),
            "outputs": list(contest.outputs),
            "files": describe_files(folder, files),
            "parity": {"limits": {"max_abs": limits.max_abs, "mad": limits.mad}},
            "cost": {"macs": contest.macs},
        },
    )


def _timing(result: Mapping[str, Any], budget: Budget) -> Timing:
    """What ``gate`` would say of one result; the time is what it judges by, p90."""
    from android_bench.gate import FAIL, PASS, judge_result
    from mobile_matting_export.time_here import FAST, INCONCLUSIVE, SLOW, WRONG, Timing

    verdict = judge_result(result, budget)
    latency = result["latency_ms"]
    outcome = {PASS: FAST, FAIL: SLOW, "quality": WRONG}.get(verdict.outcome, INCONCLUSIVE)
    reason = "; ".join(verdict.reasons) if outcome in (INCONCLUSIVE, WRONG) else ""
    return Timing(None if latency is None else latency["p90"], outcome, reason)
