"""Times that cannot be: faster than the chip can count, or that leave most of the clock unaccounted for."""

from __future__ import annotations

from android_bench.job import Job
from android_bench.runners.runner import Finding, Launch, Measurement

# Generous on purpose, so that a true time is never refused: four 128-bit FMA pipes (Cortex-X4) or two of 512 bits
# (x86) make 32 or 64 float32 operations a cycle; halves twice that, 8-bit matrix instructions four times.
_OPERATIONS_PER_CYCLE = {"fp32": 64, "fp16": 128, "int8": 256}
_FASTEST_CLOCK_HZ = 5e9
# the largest phone GPUs of 2026 are specified at less than half of it in fp16
_GPU_OPERATIONS_PER_S = 20e12
# loading, compiling shaders and writing files are in the clock but in no runner's account
_UNACCOUNTED_S, _UNACCOUNTED_FACTOR = 5.0, 3.0


def speed_findings(job: Job, launch: Launch, measured: Measurement, wall_s: float | None) -> tuple[Finding, ...]:
    """What is impossible about a launch.

    ``implied-flops``: 2 MACs / time is more than any such chip does: another network, another shape, no work.
    ``enqueue-only``: the frames' times add up to far less than the launch took, as when only the hand-over of
    the work to the GPU is timed (google-ai-edge/LiteRT issue 9453: 0.27 ms told, 16 to 22 ms taken).
    """
    findings = []
    value_ms = measured.value_ms
    if value_ms <= 0:
        findings.append(Finding("implied-flops", f"{value_ms:g} ms a frame: nothing was run"))
    elif job.macs:
        implied = 2 * job.macs / (value_ms / 1e3)
        most = _most_operations(job, launch)
        if implied > most:
            text = (
                f"{value_ms:.3g} ms for {job.macs / 1e6:.0f} MMACs would be {implied / 1e12:.1f} TFLOP/s, "
                f"no such chip does more than {most / 1e12:.1f}: another network or shape was run, or none"
            )
            findings.append(Finding("implied-flops", text))
    if wall_s is not None and measured.runs is not None and not launch.frequency:
        warmup_s = launch.warmup_s if measured.warmup_runs is None else measured.warmup_runs * measured.mean_ms / 1e3
        told = measured.runs * measured.mean_ms / 1e3 + warmup_s
        told += sum(value or 0.0 for value in (measured.init_ms, measured.first_ms)) / 1e3
        if wall_s > _UNACCOUNTED_S + _UNACCOUNTED_FACTOR * told:
            text = f"the launch took {wall_s:.1f} s, its frames add up to {told:.1f} s: only their enqueueing was timed"
            findings.append(Finding("enqueue-only", text))
    return tuple(findings)


def _most_operations(job: Job, launch: Launch) -> float:
    if job.accelerator == "gpu":
        return _GPU_OPERATIONS_PER_S
    return launch.threads * _FASTEST_CLOCK_HZ * _OPERATIONS_PER_CYCLE.get(job.precision, 256)
