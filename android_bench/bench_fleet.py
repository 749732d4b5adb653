"""Benches several phones at once, a thread each; what happens to one phone takes nothing from the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from android_bench.device import Device, DeviceState
from android_bench.errors import BenchError, DeviceError
from android_bench.job import Job
from android_bench.measure import Record
from android_bench.prepare import Prepared
from android_bench.report import build_report, build_result
from android_bench.runners import find_runner
from android_bench.runners.runner import Launch
from android_bench.session import Request, bench

# a launch that runs when we are told to stop may take minutes; each phone's guard cleans up without us
_STOP_WAIT_S = 5.0


@dataclass(frozen=True)
class Member:
    """What came of one phone. ``report`` is None where it could not be measured as asked; ``error`` says why.

    A phone that was never reached has a report too, in which every artifact is lost: an older report in its place
    would pass a gate.
    """

    serial: str
    report: dict[str, Any] | None
    error: BenchError | None = None


def bench_fleet(
    jobs: Sequence[Job],
    requests: Sequence[Request],
    announce: Callable[[str], None],
    keep: Callable[[Member], None],
) -> list[Member]:
    """Measure ``jobs`` on every phone of ``requests`` (serials all named, all different) at the same time.

    Args:
        jobs: made once; every phone reads the same files.
        requests: one a phone.
        announce: gets each phone's sentences with its serial before them, one call at a time.
        keep: gets each member as soon as its phone is done, in the caller's thread, so that it can be stored.

    Returns:
        The members in the order of ``requests``.

    Raises:
        Whatever is no BenchError (a defect), after all phones were kept; KeyboardInterrupt, after the phones were told.
    """
    ended: queue.SimpleQueue[tuple[int, Member | BaseException]] = queue.SimpleQueue()
    stop, one_at_a_time = threading.Event(), threading.Lock()

    def work(number: int, request: Request) -> None:
        def told(message: str) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            with one_at_a_time:
                announce(message if message.startswith(f"{request.serial}: ") else f"{request.serial}: {message}")

        try:
            ended.put((number, _bench_one(jobs, request, told)))
        except BaseException as defect:
            ended.put((number, defect))

    # daemons: a phone that hangs must not keep a stopped program alive
    threads = [
        threading.Thread(target=work, args=(number, request), name=f"bench-{request.serial}", daemon=True)
        for number, request in enumerate(requests)
    ]
    for thread in threads:
        thread.start()
    members: dict[int, Member] = {}
    defects: list[BaseException] = []
    try:
        for _ in threads:
            number, came = ended.get()
            if isinstance(came, BaseException):
                defects.append(came)
                continue
            members[number] = came
            keep(came)
    except BaseException:
        stop.set()
        deadline = time.monotonic() + _STOP_WAIT_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
    if defects:
        raise defects[0]
    return [members[number] for number in range(len(requests))]


def _bench_one(jobs: Sequence[Job], request: Request, announce: Callable[[str], None]) -> Member:
    serial = str(request.serial)
    try:
        report, error = bench(jobs, request, announce)
    except DeviceError as unreached:
        return Member(serial, _unreached_report(jobs, request, unreached), unreached)
    except BenchError as refused:
        return Member(serial, None, refused)
    return Member(serial, report, error)


def _unreached_report(jobs: Sequence[Job], request: Request, error: DeviceError) -> dict[str, Any]:
    """The report of a phone of which nothing is known: every artifact is lost, and says why."""
    results = []
    for job in jobs:
        launch = Launch(program=(), files=(), scratch="", threads=request.threads)
        unreached = Record(Prepared(job, find_runner(job.runtime), launch), lost=str(error))
        # which one would have run is known only where it was named
        results.append(build_result(unreached, request.plan, None, []) | {"runner": request.runner_name})
    return build_report(Device(str(request.serial)), DeviceState(), None, results, request.budget)
