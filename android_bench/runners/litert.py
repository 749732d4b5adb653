"""LiteRT's ``benchmark_model`` of the CompiledModel API (benchmark_litert_model): ML Drift on the GPU.

The GPU is asked for alone (``--use_cpu=false --require_full_delegation=true``): with the CPU left on, a part or all
of the network may run there without a word. That command ending well is the proof. It waits for the GPU in every
run; the sibling ``run_model`` times the enqueueing only and is never used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from android_bench.job import Job
from android_bench.runners.check_speed import speed_findings
from android_bench.runners.runner import (
    Command,
    Finding,
    Launch,
    Measurement,
    Output,
    RunnerFailed,
    require_success,
)
from android_bench.runners.tflite import benchmark_command, read_numbers, with_cpu_kernels

_ALONE = ("--use_gpu=true", "--use_cpu=false", "--require_full_delegation=true")
_LINE = re.compile(r"(Model initialization|Warmup \(\w+\)|Inference \(\w+\)):\s+([\d.e+]+)(?: ms)?(?: \((\d+) runs\))?")


@dataclass(frozen=True)
class LitertRunner:
    """Runs ``.tflite`` files with benchmark_model of the CompiledModel API."""

    name: str = "litert"
    program: str = "benchmark_model"
    runtime: str = "tflite"

    def command(self, job: Job, launch: Launch) -> Command:
        """The flags; ``gpu-precision`` has a hyphen."""
        if job.accelerator == "gpu":
            flags = [*_ALONE, f"--gpu-precision={'fp32' if job.precision == 'fp32' else 'fp16'}"]
        else:
            flags = ["--use_gpu=false", "--use_cpu=true"]
        return benchmark_command(job, launch, flags)

    def read(self, job: Job, launch: Launch, output: Output) -> Measurement:
        """The measurement, and what is wrong with it."""
        require_success(self.program, output)
        measured = read_numbers(self.program, output) if output.result else _from_text(self.program, output.text)
        measured = with_cpu_kernels(job, measured, output.text)
        findings = measured.findings
        if job.accelerator == "gpu":
            measured = replace(measured, delegation="full", proof=f"{' '.join(_ALONE)}, status 0")
        if measured.median_ms is None:
            findings += (Finding("no-median", "the runner printed a mean only: one slow frame moves it", "warns"),)
        findings += speed_findings(job, launch, measured, output.wall_s)
        return replace(measured, findings=findings)


def _from_text(program: str, text: str) -> Measurement:
    values, runs = {}, {}
    for key, value, count in _LINE.findall(text):
        values[key] = float(value)
        if count:
            runs[key] = int(count)
    if "Inference (avg)" not in values:
        raise RunnerFailed(
            "truncated-output", f"{program} printed no line 'Inference (avg)': is it run_model?", output=text
        )
    if not runs.get("Inference (avg)", 1):
        raise RunnerFailed("no-runs", f"{program} timed no run", output=text)
    return Measurement(
        source="text",
        runs=runs.get("Inference (avg)"),
        warmup_runs=runs.get("Warmup (avg)"),
        mean_ms=values["Inference (avg)"],
        min_ms=values.get("Inference (min)"),
        max_ms=values.get("Inference (max)"),
        std_ms=values.get("Inference (std)"),
        init_ms=values.get("Model initialization"),
        first_ms=values.get("Warmup (first)"),
    )
