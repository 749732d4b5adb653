"""One launch of a runner on a machine, from outside: no result of an earlier one, a clock beside it, a time limit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from android_bench.errors import FileMissing
from android_bench.machine import Machine
from android_bench.prepare import Prepared
from android_bench.runners.runner import Launch, Measurement, Output

# beyond what a launch is asked to take: loading, compiling shaders (minutes on old GPUs), slow networks
_SLACK_S = 300.0
_REMOVE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Clock:
    """Time as the protocol sees it, so that tests need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def launch_once(machine: Machine, prepared: Prepared, launch: Launch, clock: Clock) -> tuple[Measurement, float]:
    """Run a launch to its end; returns the measurement and how many seconds it took from outside.

    Raises:
        RunnerFailed: no measurement in what it left.
        DeviceError: the machine was lost, or the runner was still running at the limit.
    """
    command = prepared.runner.command(prepared.job, launch)
    if command.result_file:
        machine.run(["rm", "-f", command.result_file], _REMOVE_TIMEOUT_S)
    begun = clock.now()
    done = machine.run(command.argv, launch.seconds + launch.warmup_s + _SLACK_S)
    wall_s = clock.now() - begun
    output = Output(
        status=done.status,
        stdout=done.stdout.decode(errors="replace"),
        stderr=done.stderr.decode(errors="replace"),
        result=_pull(machine, command.result_file) if command.result_file and done.status == 0 else None,
        wall_s=wall_s,
    )
    return prepared.runner.read(prepared.job, launch, output), wall_s


def _pull(machine: Machine, path: str) -> bytes | None:
    """The result file, None when the runner left none (an older build does not know the flag)."""
    with tempfile.TemporaryDirectory(prefix="mmexport-result-") as folder:
        local = Path(folder) / "result"
        try:
            machine.pull(path, local)
        except FileMissing:
            return None
        return local.read_bytes()
