"""ncnn's ``benchncnn``: everything on stderr, averages only, and four ways to a time that measures something else.

It never reads the weights (they are zero, inputs are 0.01), so it times a network but cannot show its alpha.
Text as printed by Tencent/ncnn, benchmark/benchncnn.cpp.
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
    with_affinity,
)

_TIMES = re.compile(r"^\s*(.*?)\s+min =\s*([\d.]+)\s+max =\s*([\d.]+)\s+avg =\s*([\d.]+)\s*$", re.MULTILINE)
_ECHO = re.compile(r"^(loop_count|num_threads|gpu_device) = (-?\d+)$", re.MULTILINE)
_NOT_LOADED = re.compile(r"fopen .* failed|network graph not ready")
# a line a device, printed by builds with Vulkan also when they run on the CPU
_VULKAN = re.compile(r"^(\[0 (.+?)\]\s+queueC=.*)$", re.MULTILINE)
_INPUT = re.compile(r"^Input\s+\S+\s+\d+\s+\d+\s+(\S+)\s+0=(\d+)\s+1=(\d+)\s+2=(\d+)", re.MULTILINE)
# 0, 1 and 2 set the affinity anew and undo taskset; any other value is refused and leaves it (set_cpu_powersave in
# src/cpu.cpp: "not supported", return -1, which benchncnn ignores). Without a mask 2, the big cores, is its default.
_KEEP_AFFINITY, _BIG_CORES = 3, 2
_LEAST_GAIN = 1.2
_WARMUP_RUNS = {"cpu": 8, "gpu": 10}


@dataclass(frozen=True)
class NcnnRunner:
    """Runs ``.param`` files with benchncnn."""

    name: str = "ncnn"
    program: str = "benchncnn"
    runtime: str = "ncnn"

    def command(self, job: Job, launch: Launch) -> Command:
        """Loops, threads, powersave, GPU, no pause (cooling is ours), the file and its shapes as w,h,c."""
        gpu = 0 if job.accelerator == "gpu" else -1
        shapes = ",".join(f"[{','.join(map(str, shape))}]" for shape in _whc(job))
        words = (
            *launch.program,
            *map(str, (launch.runs, launch.threads, _KEEP_AFFINITY if launch.mask else _BIG_CORES, gpu, 0)),
            f"param={launch.files[0]}",
            f"shape={shapes}",
        )
        return Command(with_affinity(launch, words))

    def read(self, job: Job, launch: Launch, output: Output) -> Measurement:
        """The measurement, and what is wrong with it."""
        text = output.text
        require_success(self.program, output)
        if missing := _NOT_LOADED.search(text):
            raise RunnerFailed(
                "missing-param", f"{self.program} timed no network, yet gave a time: {missing[0]}", output=text
            )
        times = _TIMES.findall(text)
        if len(times) != 1:
            raise RunnerFailed("truncated-output", f"{self.program} printed {len(times)} lines of times, not one")
        name, *numbers = times[0]
        low, high, mean = map(float, numbers)
        echoed = {key: int(value) for key, value in _ECHO.findall(text)}
        vulkan = _VULKAN.search(text)
        on_gpu = vulkan is not None and echoed.get("gpu_device", -1) >= 0
        # ncnn has one set of CPU kernels; the echo says that no device was taken
        on_cpu = "gpu_device = -1" if job.accelerator == "cpu" and echoed.get("gpu_device") == -1 else ""
        measured = Measurement(
            source="text",
            name=name,
            runs=echoed.get("loop_count"),
            mean_ms=mean,
            min_ms=low,
            max_ms=high,
            warmup_runs=_WARMUP_RUNS[job.accelerator],
            delegation="unknown" if on_gpu else "none",
            proof=vulkan[1] if vulkan is not None and on_gpu else on_cpu,
            cpu_kernels="ncnn" if on_cpu else "unknown",
            gpu_name=vulkan[2] if vulkan is not None and on_gpu else "",
        )
        findings = _findings(job, launch, echoed, on_gpu) + speed_findings(job, launch, measured, output.wall_s)
        return replace(measured, findings=findings)


def shape_refusal(job: Job, param: str) -> Finding | None:
    """Compare the job's inputs with the ``Input`` layers of a ``.param`` file's text.

    benchncnn runs any shape it is given and nothing it prints tells: a quarter of the size is a quarter of the time.
    """
    found = [tuple(map(int, match[1:])) for match in _INPUT.findall(param)]
    if found == _whc(job):
        return None
    return Finding("wrong-shape", f"the file's inputs are {found} (w,h,c), the manifest's {_whc(job)}")


def _whc(job: Job) -> list[tuple[int, ...]]:
    """Input shapes in ncnn's order."""
    shapes: list[tuple[int, ...]] = []
    for tensor in job.inputs:
        sides = tensor.shape[-3:]
        height, width, channels = sides if tensor.layout == "NHWC" else (sides[1], sides[2], sides[0])
        shapes.append((width, height, channels))
    return shapes


def _findings(job: Job, launch: Launch, echoed: dict[str, int], on_gpu: bool) -> tuple[Finding, ...]:
    findings = []
    if job.accelerator == "gpu" and not on_gpu:
        text = "no Vulkan device is named in the output: benchncnn takes the CPU then, without a word"
        findings.append(Finding("cpu-instead-of-gpu", text))
    asked = {"loop_count": launch.runs, "num_threads": launch.threads}
    for key, value in asked.items():
        if key in echoed and echoed[key] != value:
            findings.append(Finding("other-settings", f"{key} = {echoed[key]} was used, {value} asked"))
    findings.append(
        Finding("no-median", "benchncnn gives an average only: the launches' averages are what is judged", "warns")
    )
    if launch.threads > 1 and job.accelerator == "cpu":
        text = f"that {launch.threads} threads were used is not proved: a build without OpenMP uses one"
        findings.append(Finding("threads-not-proved", text, "warns"))
    return tuple(findings)


def slower_with_threads(one_ms: float, many_ms: float, threads: int) -> Finding | None:
    """Judge a comparison of one thread with several; a build without OpenMP is as fast with any number."""
    # without OpenMP the ratio is 1; a second thread that gains less than a fifth is not worth its name either
    if threads < 2 or one_ms > _LEAST_GAIN * many_ms:
        return None
    text = f"{threads} threads take {many_ms:.1f} ms, one takes {one_ms:.1f} ms: the build has no OpenMP"
    return Finding("threads-without-openmp", text)
