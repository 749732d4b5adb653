"""Is the alpha that the device computes still the network's? The frames of ``verify``, on the phone's accelerator."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from android_bench.errors import FileMissing
from android_bench.job import ParityCase
from android_bench.launch_once import Clock, launch_once
from android_bench.machine import Machine
from android_bench.prepare import Prepared
from android_bench.runners.ncnn import NcnnRunner
from android_bench.runners.runner import RunnerFailed
from android_bench.take_output import take_output

Alpha = npt.NDArray[np.float32]
# sigmoid and clamp of half floats end within it
_ROUNDING = 1e-3


def why_not(prepared: Prepared) -> str:
    """Why the device's alpha cannot be compared, empty when it can."""
    if isinstance(prepared.runner, NcnnRunner):
        return (
            "the alpha on the device was not checked: benchncnn never reads the weights; "
            "`mmexport verify` checks the artifact on this computer"
        )
    if not prepared.job.cases or prepared.job.limits is None:
        return "the alpha on the device was not checked: no verification frames were given"
    return ""


def check_parity(
    machine: Machine, prepared: Prepared, announce: Callable[[str], None], clock: Clock | None = None
) -> dict[str, Any]:
    """Run every case on the device and compare its alpha with the original network's.

    Returns:
        The report's ``parity``: images, max_abs and mad (None when not finite), psnr_db (None when equal), worst,
        limits, passed; where the device gave no alpha ``passed`` is None, and ``error`` says why.

    Raises:
        DeviceError: the machine was lost.
    """
    job = prepared.job
    assert job.limits is not None
    limits = {"max_abs": job.limits.max_abs, "mad": job.limits.mad}
    names, references, mattes = [], [], []
    for number, case in enumerate(job.cases):
        announce(f"{job.title}: the alpha of {case.name} on the device")
        try:
            mattes.append(_run_case(machine, prepared, case, number, clock or Clock()))
        except (RunnerFailed, FileMissing, ValueError) as error:
            # an alpha of another size is a wrong one; without any nothing is known
            passed = False if isinstance(error, ValueError) else None
            nothing = dict.fromkeys(("max_abs", "mad", "psnr_db"))
            told = {"worst": case.name, "limits": limits, "passed": passed, "error": str(error)}
            return {"images": len(job.cases), **nothing, **told}
        reference = job.output.as_real()
        references.append(take_output(case.alpha.read_bytes(), (reference,), reference.name))
        names.append(case.name)
    compared = compare_alphas(names, references, mattes)
    within = (
        compared["max_abs"] is not None
        and compared["max_abs"] <= limits["max_abs"]
        and compared["mad"] <= limits["mad"]
    )
    return {"images": len(names), **compared, "limits": limits, "passed": within}


def compare_alphas(names: list[str], references: list[Alpha], mattes: list[Alpha]) -> dict[str, Any]:
    """max_abs, mad, psnr_db, worst over all cases in float64; max_abs is None for anything outside [0, 1] or NaN."""
    for name, matte in zip(names, mattes, strict=True):
        if not np.isfinite(matte).all() or matte.min() < -_ROUNDING or matte.max() > 1 + _ROUNDING:
            error = "it holds NaN or infinities, or leaves [0, 1]"
            return {"max_abs": None, "mad": None, "psnr_db": None, "worst": name, "error": error}
    pairs = list(zip(references, mattes, strict=True))
    differences = [np.abs(matte.astype(np.float64) - reference) for reference, matte in pairs]
    maxima = [float(difference.max()) for difference in differences]
    mse = float(np.mean([np.square(difference).mean() for difference in differences]))
    return {
        "max_abs": max(maxima),
        "mad": float(np.mean([difference.mean() for difference in differences])),
        "psnr_db": None if mse == 0 else 10 * math.log10(1 / mse),
        "worst": names[int(np.argmax(maxima))],
    }


def _run_case(machine: Machine, prepared: Prepared, case: ParityCase, number: int, clock: Clock) -> Alpha:
    """The device's alpha of one case, in the job's shape.

    Raises:
        ValueError: an alpha of another size. RunnerFailed: among several outputs it cannot be found.
    """
    stem = prepared.launch.scratch
    inputs = tuple(
        machine.push(file, f"{Path(stem).name}-case-{number}-{place}.raw") for place, file in enumerate(case.inputs)
    )
    launch = replace(
        prepared.launch,
        runs=1,
        seconds=0.0,
        warmup_s=0.0,
        input_files=inputs,
        output_file=f"{stem}-case-{number}-alpha.raw",
    )
    launch_once(machine, prepared, launch, clock)
    with tempfile.TemporaryDirectory(prefix="mmexport-alpha-") as folder:
        local = Path(folder) / "alpha.raw"
        machine.pull(launch.output_file, local)
        written = local.read_bytes()
    outputs = prepared.job.all_outputs
    try:
        return take_output(written, outputs, prepared.job.output.name)
    except ValueError as error:
        if len(outputs) == 1:
            raise
        # one of the others may be the wrong one: the alpha is not known
        raise RunnerFailed("outputs-of-another-size", str(error)) from error
