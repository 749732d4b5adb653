"""Times forms of a network on a phone for ``convert --autotune``: the protocol of ``bench``, and its doubts."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact import Artifact, describe_files
from mobile_matting_export.cli.bench_jobs import make_job, write_frame
from mobile_matting_export.cli.bench_run import make_request, with_defaults
from mobile_matting_export.cli.time_on_phone import require_phone
from mobile_matting_export.errors import InconclusiveError

if TYPE_CHECKING:
    from android_bench.job import Job
    from mobile_matting_export.targets import Target
    from mobile_matting_export.time_forms import FormsToTime, FormTimer


def phone_form_timer(serial: str, targets: Sequence[Target]) -> FormTimer:
    """A timer of forms on the phone ``serial``, with the defaults of ``mmexport bench``: threads, launches, runner.

    Raises:
        UsageError: a target has no phone runner. BenchError: no such phone, no runner.
    """
    from android_bench.adb import open_phone
    from android_bench.device import read_device
    from mobile_matting_export.time_forms import FormTimer

    chosen = with_defaults({})
    programs = [require_phone(serial, target, chosen) for target in targets]
    request = make_request(serial, chosen, None)
    with open_phone(serial, server=chosen["adb_server"]) as phone:
        device = read_device(phone)
    runners = [hashlib.sha256(program.read_bytes()).hexdigest() for program in programs]
    # what decides a time: serials do not, and addresses of phones in a network change
    where = repr((device.model, device.fingerprint, device.gpu, runners, request.threads))

    def time_on_phone(asked: FormsToTime, announce: Announce) -> dict[str, list[float]]:
        from android_bench.session import bench

        with tempfile.TemporaryDirectory(prefix="mmexport-frames-") as folder:
            jobs = [_make_job(asked, name, Path(folder)) for name in asked.forms]
            report, error = bench(jobs, request, lambda message: announce(Part(message)))
        if error is not None:
            raise error
        results = dict(zip(asked.forms, report["results"], strict=True))
        return read_times(results, f"{asked.target.name} on {serial}", announce)

    threads = "one thread" if request.threads == 1 else f"{request.threads} threads"
    return FormTimer(where, f"ms of a frame on {device.model}, {threads}, the median of a launch", time_on_phone)


def read_times(results: Mapping[str, Mapping[str, Any]], what: str, announce: Announce) -> dict[str, list[float]]:
    """The launches' medians of each form, in milliseconds, from the results of a bench report.

    A form that the phone refuses, or of which it makes another matte, is told and left out: it is none there.

    Args:
        results: form -> its result; the first two are the row's own form.
        what: target and phone, for sentences.
        announce: gets a sentence for each form left out.

    Raises:
        InconclusiveError: the row's own form has no time that can be defended, or another's cannot be compared with it.
    """
    from android_bench.gate import busy_reason, doubts_about, parity_reason
    from android_bench.stats import launch_value

    times = {}
    for number, (name, result) in enumerate(results.items()):
        parity = result.get("parity") or {}
        refused = [f"{entry['name']}: {entry['text']}" for entry in result.get("refusals") or ()]
        refused += [parity_reason(parity)] if parity.get("passed") is False else []
        if refused and number >= 2:
            announce(Part(f"autotune {what}: {name} is no form there: {refused[0]}"))
            continue
        doubts = [*refused, *doubts_about(result), *filter(None, [busy_reason(result)])]
        medians = [value for launch in result["launches"] if (value := launch_value(launch)) is not None]
        if doubts or not medians:
            raise InconclusiveError(
                f"--autotune has no time of {what}, {name}, that can be defended: "
                f"{(*doubts, 'no launch gave one')[0]}. Mend that, or leave --autotune away"
            )
        times[name] = medians
    return times


def _make_job(asked: FormsToTime, name: str, folder: Path) -> Job:
    """The job of a form; where the phone's runner gives alphas, with the frame to compare them on."""
    from android_bench.job import ParityCase

    job = make_job(_as_artifact(asked, name), None)
    if job.runtime != "tflite":  # benchncnn never reads the weights: it has no alpha to compare
        return job
    place = folder / hashlib.sha256(name.encode()).hexdigest()[:8]
    place.mkdir()
    case = asked.case
    inputs = tuple(
        write_frame(place / f"{number}.raw", value, tensor)
        for number, (value, tensor) in enumerate(zip(case.inputs.values(), job.inputs, strict=True))
    )
    alpha = write_frame(place / "alpha.raw", case.alpha, job.output.as_real())
    return replace(job, cases=(ParityCase(case.name, inputs, alpha),))


def _as_artifact(asked: FormsToTime, name: str) -> Artifact:
    """Files of a form with what ``bench`` reads of a manifest; they lie in no folder that ``convert`` made."""
    target, files = asked.target, asked.forms[name]
    limits = target.limits[asked.precision]
    manifest = {
        "network": {"name": name},
        "target": target.name,
        "precision": asked.precision,
        "accelerator": target.accelerator,
        "inputs": list(asked.inputs),
        "outputs": list(asked.outputs),
        "files": describe_files(files[0].parent, files),
        "parity": {"limits": {"max_abs": limits.max_abs, "mad": limits.mad}},
        "cost": {"macs": asked.macs},
    }
    return Artifact(files[0].parent, manifest)
