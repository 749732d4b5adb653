"""Bring a job to a machine: its files, the runner's program, and the launch that all its launches are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from android_bench.job import Job
from android_bench.machine import Machine
from android_bench.runners.ncnn import NcnnRunner, shape_refusal
from android_bench.runners.runner import Finding, Launch, Runner

_CHMOD_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Settings:
    """How every launch goes; see ``Launch``."""

    threads: int = 1
    mask: str = ""
    runs: int = 50
    seconds: float = 1.0
    warmup_s: float = 1.0


@dataclass(frozen=True)
class Prepared:
    """A job on the machine, ready to be launched; ``refusals`` are reasons not to."""

    job: Job
    runner: Runner
    launch: Launch
    refusals: tuple[Finding, ...] = ()


def push_program(machine: Machine, binary: Path) -> tuple[str, ...]:
    """Push a runner and the shared libraries beside it (LiteRT brings its GPU as one); returns how to call it."""
    program = machine.push(binary, binary.name)
    machine.run(["chmod", "755", program], _CHMOD_TIMEOUT_S)
    libraries = sorted(binary.parent.glob("*.so"))
    for library in libraries:
        machine.push(library, library.name)
    return ("env", f"LD_LIBRARY_PATH={machine.folder}", program) if libraries else (program,)


def prepare(
    machine: Machine, job: Job, runner: Runner, program: Sequence[str], settings: Settings, number: int
) -> Prepared:
    """Push a job's files under names of their own (``number`` keeps two artifacts apart).

    Raises:
        DeviceError: the machine took a file not.
    """
    files = tuple(machine.push(file, f"{number}-{file.name}") for file in job.files)
    launch = Launch(
        program=tuple(program),
        files=files,
        scratch=f"{machine.folder}/{number}",
        threads=settings.threads,
        runs=settings.runs,
        seconds=settings.seconds,
        warmup_s=settings.warmup_s,
        mask=settings.mask,
    )
    return Prepared(job, runner, launch, _refusals(job, runner))


def _refusals(job: Job, runner: Runner) -> tuple[Finding, ...]:
    if not isinstance(runner, NcnnRunner):
        return ()
    refusal = shape_refusal(job, job.files[0].read_text(encoding="utf-8", errors="replace"))
    return () if refusal is None else (refusal,)
