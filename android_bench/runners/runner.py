"""A phone runner is two pure functions: a job becomes a command, and its output becomes a measurement.

Programs that measure answer with a number also when they measured something else. What the output gives
away about that is a ``Finding`` with a name; one that refuses makes the number worthless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from android_bench.errors import BenchError
from android_bench.job import Job

Delegation = Literal["none", "full", "partial", "refused", "unknown"]
"""How much of the network the GPU delegate took, by the runner's own text."""


class RunnerFailed(BenchError):
    """A runner ended without a measurement: it crashed, was killed, or printed something else.

    ``name`` says which way, as a finding's does.
    """

    exit_code = 7

    def __init__(self, name: str, message: str, *, output: str = "") -> None:
        super().__init__(message, output=output)
        self.name = name


@dataclass(frozen=True)
class Finding:
    """Something about a measurement. ``weight`` ``refuses``: it is not of what was asked; ``warns``: it may be off."""

    name: str
    text: str
    weight: Literal["refuses", "warns"] = "refuses"


@dataclass(frozen=True)
class Launch:
    """How one launch of a runner is to go.

    Attributes:
        program: the runner on the machine; more than one word for an interpreted one.
        files: the model files on the machine, in the job's order.
        scratch: beginning of the paths on the machine that the runner may write.
        threads: of the CPU.
        runs: at least so many timed frames.
        seconds: at least so many seconds of timed frames.
        warmup_s: at least so many seconds of frames before, timed apart.
        frequency: frames a second as a camera delivers them, 0 for one after the other.
        mask: hexadecimal CPU mask for ``taskset``, empty for none.
        input_files: input tensors on the machine, in the job's order; empty for whatever the runner makes up.
        output_file: where the runner should leave the alpha, empty for nowhere.
    """

    program: tuple[str, ...]
    files: tuple[str, ...]
    scratch: str
    threads: int
    runs: int = 50
    seconds: float = 1.0
    warmup_s: float = 1.0
    frequency: float = 0.0
    mask: str = ""
    input_files: tuple[str, ...] = ()
    output_file: str = ""


@dataclass(frozen=True)
class Command:
    """``argv`` to run on the machine, and the file it leaves its result in, empty when it only prints."""

    argv: tuple[str, ...]
    result_file: str = ""


@dataclass(frozen=True)
class Output:
    """What a launch left. ``wall_s`` is how long it took from outside, None when nobody looked at the clock."""

    status: int
    stdout: str
    stderr: str
    result: bytes | None = None
    wall_s: float | None = None

    @property
    def text(self) -> str:
        """All that was printed: runners put half of it on the other stream."""
        return f"{self.stdout}\n{self.stderr}"


@dataclass(frozen=True)
class Measurement:
    """One launch, in milliseconds a frame; what a runner does not tell is None.

    ``source`` is ``result file`` or ``text``; ``delegation`` is what the text says of the GPU delegate;
    ``proof`` is the sentence or line that proves the accelerator, empty without one; ``cpu_kernels`` is what ran on the
    CPU (``xnnpack``, ``plain``, ``ncnn``), ``cpu_nodes`` of ``graph_nodes`` operations; ``cpu_share`` is which part of
    its cores the runner got, 1 on a machine with nothing else to do.
    """

    source: str
    runs: int | None
    mean_ms: float
    median_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    p5_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    std_ms: float | None = None
    init_ms: float | None = None
    first_ms: float | None = None
    warmup_runs: int | None = None
    delegation: Delegation = "unknown"
    kernels: int | None = None
    proof: str = ""
    gpu_name: str = ""
    cpu_kernels: str = "unknown"
    cpu_nodes: int | None = None
    graph_nodes: int | None = None
    name: str = ""
    cpu_share: float | None = None
    findings: tuple[Finding, ...] = field(default=())

    @property
    def value_ms(self) -> float:
        """The number that stands for this launch: its median, or its mean where the runner has no median."""
        return self.mean_ms if self.median_ms is None else self.median_ms

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that make the number worthless."""
        return tuple(finding for finding in self.findings if finding.weight == "refuses")


class Runner(Protocol):
    """A program that measures. Its three functions touch nothing: files and phones are the caller's."""

    @property
    def name(self) -> str:
        """As flags and reports call it."""
        ...

    @property
    def program(self) -> str:
        """File name of the binary, as its makers call it."""
        ...

    @property
    def runtime(self) -> str:
        """Which jobs it takes: ``tflite`` or ``ncnn``."""
        ...

    def command(self, job: Job, launch: Launch) -> Command:
        """What to run."""
        ...

    def read(self, job: Job, launch: Launch, output: Output) -> Measurement:
        """What came out.

        Raises:
            RunnerFailed: no measurement in it.
        """
        ...


def with_affinity(launch: Launch, words: Sequence[str]) -> tuple[str, ...]:
    """``words`` bound to the launch's cores."""
    return ("taskset", launch.mask, *words) if launch.mask else tuple(words)


def require_success(runner: str, output: Output) -> None:
    """Refuse a runner that ended with a status.

    Raises:
        RunnerFailed: ``crashed`` (names the signal) or ``failed`` (shows the last lines).
    """
    if output.status == 0:
        return
    lines = [line.strip() for line in output.text.splitlines() if line.strip()]
    last = " | ".join(lines[-2:]) or "nothing"
    number = output.status - 128
    if number in _SIGNALS:
        raise RunnerFailed(
            "crashed", f"{runner} was ended by {_SIGNALS[number]}; it printed: {last}", output=output.text
        )
    raise RunnerFailed("failed", f"{runner} ended with status {output.status}; it printed: {last}", output=output.text)


# by Linux' numbers, whatever the machine that reads them
_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
