"""From artifacts and flags to a bench report: what ``bench`` and ``compare`` share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.cli.bench_jobs import add_frames, make_job
from mobile_matting_export.cli.common import Output
from mobile_matting_export.cli.list_runners import runners_folder

if TYPE_CHECKING:
    from android_bench.gate import Budget
    from android_bench.job import Job
    from android_bench.session import Request

HOST = "host"
_DEFAULTS: dict[str, Any] = {
    "launches": 7,
    "cooldown": 300.0,
    "clocks": "as-they-are",
    "alpha": "auto",
}


def run_bench(
    artifacts: Sequence[Artifact],
    device: str | None,
    flags: Mapping[str, Any],
    budget: Budget | None,
    output: Output,
) -> dict[str, Any]:
    """Measure artifacts on one device, in turns; returns the report.

    Args:
        artifacts: what to measure.
        device: serial, ``host``, or None for the only phone.
        flags: those of ``mmexport bench`` by their parameter names; what is absent is as there by default.
        budget: None where no frame rate is asked for.
        output: gets the progress.

    Raises:
        BenchError: no device, no runner. UsageError: what was asked cannot be.
    """
    from android_bench.adb import find_phone
    from android_bench.session import bench

    chosen = with_defaults(flags)
    if device != HOST:
        find_phone(device, server=chosen["adb_server"])  # before the work that a missing phone would waste
    request = make_request(device, chosen, budget)
    steps = len(artifacts) * (request.plan.launches + 1)
    with tempfile.TemporaryDirectory(prefix="mmexport-frames-") as folder, output.progress(steps) as announce:
        report, error = bench(make_jobs(artifacts, device, chosen, Path(folder), announce), request, announce)
    if error is not None:
        output.detail(error.evidence)
    return report


def with_defaults(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Every flag of ``mmexport bench`` that measuring asks for; what is absent or None as it is by default."""
    given = {key: value for key, value in flags.items() if value is not None}
    chosen = dict.fromkeys(("accelerator", "threads", "runs", "sustained", "runner", "runner_name", "adb_server"))
    return chosen | _DEFAULTS | given


def make_request(device: str | None, flags: Mapping[str, Any], budget: Budget | None) -> Request:
    """What android_bench is asked for on one device; ``flags`` are whole, see ``with_defaults``."""
    from android_bench.measure import Plan
    from android_bench.prepare import Settings
    from android_bench.session import Request
    from mobile_matting_export.errors import UsageError

    here = device == HOST
    if here and flags["accelerator"] == "gpu":
        raise UsageError("--accelerator gpu: this computer has no GPU delegate; name a phone with --device")
    # short launches here: other programs come and go on a computer, and seven medians see through it
    settings = Settings(seconds=0.3, warmup_s=0.2, runs=20) if here else Settings()
    return Request(
        serial=device,
        threads=flags["threads"] or (1 if here else 4),
        plan=Plan(flags["launches"], flags["cooldown"], flags["sustained"] or 0.0),
        budget=budget,
        runner=None if flags["runner"] is None else Path(flags["runner"]),
        runner_name=flags["runner_name"],
        fetched=runners_folder(),
        adb_server=flags["adb_server"],
        clocks=flags["clocks"],
        settings=Settings(runs=flags["runs"] or settings.runs, seconds=settings.seconds, warmup_s=settings.warmup_s),
    )


def make_jobs(
    artifacts: Sequence[Artifact],
    device: str | None,
    flags: Mapping[str, Any],
    folder: Path,
    announce: Callable[[str], None],
) -> list[Job]:
    """The artifacts as jobs, with the frames to compare alphas in ``folder``; the same jobs serve any phone."""
    from mobile_matting_export.errors import UsageError

    accelerator = "cpu" if device == HOST else flags["accelerator"]
    jobs = []
    for number, artifact in enumerate(artifacts):
        job = make_job(artifact, accelerator)
        wanted = flags["alpha"] == "check" or (flags["alpha"] == "auto" and device != HOST)
        # benchncnn never reads the weights: it has no alpha to compare
        if wanted and (job.runtime == "tflite" or device == HOST):
            place = folder / str(number)
            place.mkdir()
            try:
                job = add_frames(artifact, job, place, announce)
            except UsageError as error:
                if flags["alpha"] == "check":
                    raise
                announce(f"the alpha on the device will not be checked: {error}")
        jobs.append(job)
    return jobs
