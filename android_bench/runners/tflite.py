"""TensorFlow Lite's ``benchmark_model``: the interpreter with XNNPACK or the GPU delegate.

Its result file is the source of the numbers, its text the fall-back and the only proof of the GPU: the sentence
"will be completely executed by the delegate". Lines and flags as in google-ai-edge/LiteRT, tflite/tools/benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from android_bench.job import Job
from android_bench.runners.check_speed import speed_findings
from android_bench.runners.read_cpu_kernels import cpu_findings, read_cpu_kernels
from android_bench.runners.result_file import read_result
from android_bench.runners.runner import (
    Command,
    Delegation,
    Finding,
    Launch,
    Measurement,
    Output,
    RunnerFailed,
    require_success,
    with_affinity,
)

# a launch that hangs on one frame must end before our own time limit
_MAX_SECONDS = 150
_COUNT = re.compile(r"\bcount=(\d+)\b(.*)")
_NUMBER = re.compile(r"(\w+)=([-+0-9.eE]+)")
_SUMMARY = re.compile(r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+)")
_PARTLY = re.compile(r"will be partially executed by the delegate w/ (\d+) delegate kernels?")
_DISALLOWED = "Disallowed CPU fallback detected."


@dataclass(frozen=True)
class TfliteRunner:
    """Runs ``.tflite`` files with benchmark_model of the interpreter."""

    name: str = "tflite"
    program: str = "benchmark_model"
    runtime: str = "tflite"

    def command(self, job: Job, launch: Launch) -> Command:
        """The flags, nothing left to defaults that differ between builds."""
        flags = [f"--max_secs={max(_MAX_SECONDS, 2 * launch.seconds):g}"]
        if job.accelerator == "gpu":
            # cl: without it OpenGL is taken silently where OpenCL fails
            loss_allowed = "false" if job.precision == "fp32" else "true"
            flags += ["--use_gpu=true", "--gpu_backend=cl", f"--gpu_precision_loss_allowed={loss_allowed}"]
            flags += ["--require_full_delegation=true"]
        else:
            flags += ["--use_gpu=false", "--use_xnnpack=true"]
        return benchmark_command(job, launch, flags)

    def read(self, job: Job, launch: Launch, output: Output) -> Measurement:
        """The measurement, and what is wrong with it."""
        if _DISALLOWED in output.text:
            raise RunnerFailed("cpu-fallback", f"{self.program}: {_DISALLOWED}", output=output.text)
        require_success(self.program, output)
        measured = read_numbers(self.program, output)
        delegation, kernels, proof = read_delegation(output.text)
        measured = replace(measured, delegation=delegation, kernels=kernels, proof=proof)
        measured = with_cpu_kernels(job, measured, output.text)
        findings = _gpu_findings(job, measured) + speed_findings(job, launch, measured, output.wall_s)
        return replace(measured, findings=measured.findings + findings)


def benchmark_command(job: Job, launch: Launch, flags: Sequence[str]) -> Command:
    """Both benchmark_models take these flags; ``flags`` are those in which they differ."""
    result = f"{launch.scratch}.result.pb"
    argv = [
        f"--graph={launch.files[0]}",
        f"--num_threads={launch.threads}",
        f"--num_runs={launch.runs}",
        f"--min_secs={launch.seconds:g}",
        "--warmup_runs=1",
        f"--warmup_min_secs={launch.warmup_s:g}",
        f"--result_file_path={result}",
        *flags,
    ]
    if launch.frequency:
        argv.append(f"--run_frequency={launch.frequency:g}")
    if launch.input_files:
        argv += input_flags(job, launch)
    if launch.output_file:
        argv.append(f"--output_filepath={launch.output_file}")
    return Command(with_affinity(launch, (*launch.program, *argv)), result)


def input_flags(job: Job, launch: Launch) -> list[str]:
    """Flags that feed files of raw values; a colon in a name is escaped, as benchmark_model wants it."""
    names = [tensor.name for tensor in job.inputs]
    shapes = [",".join(map(str, tensor.shape)) for tensor in job.inputs]
    escaped = [name.replace(":", r"\:") for name in names]
    files = [f"{name}:{path}" for name, path in zip(escaped, launch.input_files, strict=True)]
    return [
        f"--input_layer={','.join(names)}",
        f"--input_layer_shape={':'.join(shapes)}",
        f"--input_layer_value_files={','.join(files)}",
    ]


def read_numbers(program: str, output: Output) -> Measurement:
    """Numbers of benchmark_model, from its result file when there is one, else from its text.

    Raises:
        RunnerFailed: ``truncated-output``, ``no-runs`` or ``damaged-result-file``.
    """
    return _from_file(output.result) if output.result else _from_text(program, output.text)


def _from_file(data: bytes) -> Measurement:
    result = read_result(data)
    latency = result["latency"]
    if not result["num_runs"] or not latency.get("avg"):
        raise RunnerFailed("no-runs", "the runner's result file holds no timed run")
    return Measurement(
        source="result file",
        name=result["name"],
        runs=result["num_runs"],
        warmup_runs=result["num_warmup_runs"],
        mean_ms=latency["avg"],
        min_ms=latency.get("min"),
        max_ms=latency.get("max"),
        std_ms=latency.get("stddev"),
        # an older build leaves them out, and out means zero
        median_ms=latency.get("median") or None,
        p5_ms=latency.get("p5") or None,
        p95_ms=latency.get("p95") or None,
        init_ms=latency.get("init"),
        first_ms=latency.get("first"),
    )


def _from_text(program: str, text: str) -> Measurement:
    counts = [line for line in text.splitlines() if _COUNT.search(line)]
    if len(counts) < 2:  # the first is the warm-up's
        raise RunnerFailed(
            "truncated-output", f"{program} printed {len(counts)} of the two lines with timings", output=text
        )
    values = read_count_line(counts[-1])
    if not values:
        raise RunnerFailed("no-runs", f"{program} timed no run: {counts[-1].strip()}", output=text)
    summary = _SUMMARY.search(text)
    init, first = (float(summary[1]), float(summary[2])) if summary else (None, None)
    milli = {key: value / 1e3 for key, value in values.items() if key != "count"}
    return Measurement(
        source="text",
        runs=int(values["count"]),
        warmup_runs=int(read_count_line(counts[0]).get("count", 0)),
        mean_ms=milli["avg"],
        min_ms=milli.get("min"),
        max_ms=milli.get("max"),
        std_ms=milli.get("std"),
        median_ms=milli.get("median"),
        p5_ms=milli.get("p5"),
        p95_ms=milli.get("p95"),
        init_ms=None if init is None else init / 1e3,
        first_ms=None if first is None else first / 1e3,
    )


def read_count_line(line: str) -> Mapping[str, float]:
    """``count=50 first=.. avg=1.01e+06 ..`` in microseconds; empty when nothing was timed.

    One run, or runs that were all the same, are printed as ``curr`` alone: it is then all of them.
    """
    match = _COUNT.search(line)
    if match is None or int(match[1]) == 0:
        return {}
    values = {key: float(value) for key, value in _NUMBER.findall(match[2])}
    if "avg" not in values:
        if "curr" not in values:
            return {}
        same = values["curr"]
        values |= {"avg": same, "min": same, "max": same, "median": same, "p5": same, "p95": same, "std": 0.0}
    return {"count": float(match[1]), **values}


def read_delegation(text: str) -> tuple[Delegation, int | None, str]:
    """What the text says of the GPU delegate: (delegation, kernels, the sentence that proves it or empty)."""
    for line in text.splitlines():
        sentence = line.strip().removeprefix("INFO: ")
        if "GPU" not in sentence:
            continue
        if "will be completely executed by the delegate" in sentence:
            return "full", 1, sentence
        if partly := _PARTLY.search(sentence):
            return "partial", int(partly[1]), ""
        if "will not be executed by the delegate" in sentence:
            return "refused", 0, ""
    return "none", None, ""


def with_cpu_kernels(job: Job, measured: Measurement, text: str) -> Measurement:
    """A time of the CPU with what the text says of its kernels, its proof, and what to know about it."""
    if job.accelerator != "cpu":
        return measured
    found = read_cpu_kernels(text)
    return replace(
        measured,
        cpu_kernels=found.kernels,
        cpu_nodes=found.nodes,
        graph_nodes=found.graph_nodes,
        proof=found.proof,
        findings=measured.findings + cpu_findings(found),
    )


def _gpu_findings(job: Job, measured: Measurement) -> tuple[Finding, ...]:
    if job.accelerator == "cpu" and measured.delegation in ("full", "partial"):
        return (Finding("gpu-instead-of-cpu", "the GPU ran the network or a part of it: this is not a CPU time"),)
    if job.accelerator != "gpu" or measured.delegation == "full":
        return ()
    if measured.delegation == "partial":
        text = f"the GPU took {measured.kernels} parts of the network, the CPU the rest: not a GPU time"
        return (Finding("partial-delegation", text),)
    if measured.delegation == "refused":
        return (Finding("cpu-instead-of-gpu", "the GPU delegate took nothing: this is a CPU time"),)
    return (Finding("gpu-not-proved", "nothing printed says that the GPU ran the network: maybe a CPU time"),)
