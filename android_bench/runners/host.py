"""This computer as a runner: a worker process with ai_edge_litert or ncnn, to try the gate without a phone.

Its numbers say nothing about phones, and reports call the device ``host``.
"""

from __future__ import annotations

import json
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
from android_bench.runners.tflite import with_cpu_kernels

_FIELDS = (
    *("mean_ms", "median_ms", "min_ms", "max_ms", "p5_ms", "p90_ms", "p95_ms", "std_ms", "init_ms", "first_ms"),
    *("runs", "warmup_runs", "cpu_share"),
)
_PROOF = "a process of this computer without a GPU delegate"


@dataclass(frozen=True)
class HostRunner:
    """Runs ``.tflite`` files with ai_edge_litert, ``.param`` and ``.bin`` with ncnn, on the CPU."""

    runtime: str
    name: str = "host"
    program: str = "host_worker"

    def command(self, job: Job, launch: Launch) -> Command:
        """One JSON object as the worker's only argument; it binds itself to the cores of the mask."""
        request = {
            "runtime": self.runtime,
            "files": launch.files,
            "inputs": [{"name": tensor.name, "shape": tensor.shape, "dtype": tensor.dtype} for tensor in job.inputs],
            "outputs": [tensor.name for tensor in job.all_outputs],
            "precision": job.precision,
            "threads": launch.threads,
            "runs": launch.runs,
            "seconds": launch.seconds,
            "warmup_s": launch.warmup_s,
            "frequency": launch.frequency,
            "mask": launch.mask,
            "input_files": launch.input_files,
            "output_file": launch.output_file,
        }
        return Command((*launch.program, json.dumps(request)))

    def read(self, job: Job, launch: Launch, output: Output) -> Measurement:
        """The measurement; a job for the GPU is refused, since there is no delegate here."""
        require_success("the worker process", output)
        lines = output.stdout.strip().splitlines()
        try:
            told = json.loads(lines[-1])
            measured = Measurement(source="text", **{key: told.get(key) for key in _FIELDS}, delegation="none")
        except (IndexError, ValueError, TypeError, AttributeError):
            raise RunnerFailed("truncated-output", "the worker process printed no result", output=output.text) from None
        if not measured.runs or not measured.mean_ms:
            raise RunnerFailed("no-runs", "the worker process timed no run", output=output.text)
        if self.runtime == "ncnn":
            measured = replace(measured, cpu_kernels="ncnn")
        else:
            measured = with_cpu_kernels(job, measured, output.text)
        # whatever the text says: the worker opens no other device
        measured = replace(measured, proof=measured.proof or _PROOF)
        findings = measured.findings + speed_findings(job, launch, measured, output.wall_s)
        if job.accelerator == "gpu":
            findings += (Finding("cpu-instead-of-gpu", "this computer runs on its CPU, the GPU was asked for"),)
        return replace(measured, findings=findings)
