"""A machine with scripted answers and a clock that only moves when somebody sleeps or runs something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from android_bench.device import DeviceState
from android_bench.errors import FileMissing
from android_bench.launch_once import Clock
from android_bench.machine import Completed

FOLDER = "/data/local/tmp/mmexport/run"
LINE = "INFO: count={runs} first={us} curr={us} min={us} max={us} avg={us} std=1 p5={us} median={us} p95={p95}\n"
GPU = "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.\n"


def benchmark_text(ms: float, p95_ms: float | None = None, gpu: str = "") -> bytes:
    """What benchmark_model prints for a launch."""
    p95 = ms if p95_ms is None else p95_ms
    line = LINE.format(runs=50, us=f"{ms * 1e3:.1f}", p95=f"{p95 * 1e3:.1f}")
    return (gpu + line + line).encode()


@dataclass
class FakeMachine:
    """``answer`` gets every argv and the number of its launch (0, 1, ...) and returns what the program leaves.

    An exception is raised. ``pushed`` is name -> bytes, ``commands`` every argv but housekeeping.
    """

    answer: Callable[[Sequence[str], int], bytes | Completed | Exception]
    takes_s: float = 2.0
    serial: str = "FAKE"
    folder: str = FOLDER
    time: float = 0.0
    pushed: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    commands: list[Sequence[str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        if argv[0] in ("rm", "chmod"):
            return Completed(0, b"", b"")
        self.commands.append(argv)
        self.time += self.takes_s
        answered = self.answer(argv, len(self.commands) - 1)
        if isinstance(answered, Exception):
            raise answered
        return answered if isinstance(answered, Completed) else Completed(0, answered, b"")

    def push(self, local: Path, name: str) -> str:
        self.pushed[name] = local.read_bytes()
        return f"{FOLDER}/{name}"

    def pull(self, path: str, local: Path) -> None:
        if path not in self.files:
            raise FileMissing(f"{path} is not there")
        local.write_bytes(self.files[path])

    @property
    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.time += seconds

        return Clock(lambda: self.time, sleep)


def states(*told: DeviceState) -> Callable[[], DeviceState]:
    """Give the states one after the other, the last for ever."""
    left: Iterator[DeviceState] = iter(told)
    last = DeviceState()

    def look() -> DeviceState:
        nonlocal last
        last = next(left, last)
        return last

    return look
