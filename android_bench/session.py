"""A whole bench on one device, from open to report: prepare, compare the alpha, measure, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from android_bench.adb import open_phone
from android_bench.conditions import describe_capped
from android_bench.device import Device, DeviceState, fixed_performance, read_device, read_state, stay_awake
from android_bench.errors import DeviceError, RequestError
from android_bench.find_program import find_program
from android_bench.gate import Budget
from android_bench.host import PROGRAM, SERIAL, host_mask, open_host, read_host, read_host_state
from android_bench.job import Job
from android_bench.machine import Machine
from android_bench.measure import Measured, Plan, Record, measure
from android_bench.parity import check_parity, why_not
from android_bench.prepare import Prepared, Settings, prepare, push_program
from android_bench.read_cores import choose_cluster
from android_bench.report import build_report, build_result
from android_bench.runners import find_runner

HOST_NOTE = "host: measured on this computer's CPU, which says nothing about a phone"
PHONE_NOTE = "measured from adb shell: inside an application the same network may be faster or slower"
FIXED_NOTE = "fixed-performance mode was on: steadier clocks, not the fastest"
_LAST_LOOK = "the device could not be asked how it is at the end"


@dataclass(frozen=True)
class Request:
    """What a bench is asked for. ``serial`` None takes the only phone; ``runner`` is a binary or a folder of them.

    ``fetched`` is the folder of runners that ``fetch_runner`` fills, looked into where ``runner`` is None.
    ``clocks`` is ``as-they-are`` or ``fixed`` (Android's fixed-performance mode).
    """

    serial: str | None
    threads: int = 1
    plan: Plan = field(default_factory=Plan)
    budget: Budget | None = None
    runner: Path | None = None
    runner_name: str | None = None
    fetched: Path | None = None
    adb: str = "adb"
    adb_server: str | None = None
    clocks: str = "as-they-are"
    settings: Settings = field(default_factory=Settings)


def bench(
    jobs: Sequence[Job], request: Request, announce: Callable[[str], None]
) -> tuple[dict[str, Any], DeviceError | None]:
    """Measure ``jobs`` on one device, in turns.

    Returns:
        The report, and the error that ended it early, if one did: the report then holds what was measured before.

    Raises:
        DeviceError: the device was not there to begin with. RequestError: no runner, unknown serial.
    """
    return (_bench_host if request.serial == SERIAL else _bench_phone)(jobs, request, announce)


def _bench_host(
    jobs: Sequence[Job], request: Request, announce: Callable[[str], None]
) -> tuple[dict[str, Any], DeviceError | None]:
    mask = host_mask(request.threads)
    with open_host() as host:
        settings = _settings(request, mask)
        prepared = [
            prepare(host, job, find_runner(job.runtime, "host"), PROGRAM, settings, number)
            for number, job in enumerate(jobs)
        ]
        # how fast this computer may run is its owner's choice, and no heat that a wait would mend: told, not judged
        capped = read_host_state(host).capped
        notes = [HOST_NOTE, *([describe_capped(capped)] if capped else [])]
        held = replace(request, plan=replace(request.plan, clocks="held"))
        return _measure_all(host, read_host(host), prepared, held, lambda: read_host_state(host), notes, announce)


def _bench_phone(
    jobs: Sequence[Job], request: Request, announce: Callable[[str], None]
) -> tuple[dict[str, Any], DeviceError | None]:
    # before the phone is touched: a missing runner is found out at once
    runtimes = list(dict.fromkeys(job.runtime for job in jobs))
    if request.runner is not None and request.runner.is_file() and len(runtimes) > 1:
        raise RequestError(
            f"--runner {request.runner} is one program, the artifacts need one for each of {', '.join(runtimes)}: "
            "give the folder that holds them, or bench the artifacts one by one"
        )
    programs = {
        runtime: find_program(runtime, request.runner, request.runner_name, request.fetched) for runtime in runtimes
    }
    with ExitStack() as stack:
        phone = stack.enter_context(open_phone(request.serial, request.adb, request.adb_server))
        device = read_device(phone)
        announce(f"{device.serial}: {device.model}, {device.soc}, Android {device.android}")
        notes = [PHONE_NOTE]
        stack.enter_context(stay_awake(phone))
        if request.clocks == "fixed" and stack.enter_context(fixed_performance(phone)):
            notes.append(FIXED_NOTE)
            request = replace(request, plan=replace(request.plan, clocks="held"))
        cluster = choose_cluster(device.cores, request.threads)
        settings = _settings(request, "" if cluster is None else cluster.mask)
        pushed = {runtime: push_program(phone, program.path) for runtime, program in programs.items()}
        prepared = [
            prepare(phone, job, programs[job.runtime].runner, pushed[job.runtime], settings, number)
            for number, job in enumerate(jobs)
        ]
        return _measure_all(phone, device, prepared, request, lambda: read_state(phone), notes, announce)


def _settings(request: Request, mask: str) -> Settings:
    base = request.settings
    return Settings(request.threads, mask, base.runs, base.seconds, base.warmup_s)


def _measure_all(
    machine: Machine,
    device: Device,
    prepared: Sequence[Prepared],
    request: Request,
    look: Callable[[], DeviceState],
    notes: Sequence[str],
    announce: Callable[[str], None],
) -> tuple[dict[str, Any], DeviceError | None]:
    before = look()
    parities: list[dict[str, Any] | None] = []
    why: list[str] = []
    try:
        for entry in prepared:
            why.append(why_not(entry))
            parities.append(None if why[-1] or entry.refusals else check_parity(machine, entry, announce))
        measured = measure(machine, prepared, request.plan, look, announce)
    except DeviceError as error:  # during the comparison
        parities += [None] * (len(prepared) - len(parities))
        why += [""] * (len(prepared) - len(why))
        measured = Measured(tuple(Record(entry, lost=str(error)) for entry in prepared), error)
    after, last = None, []
    if measured.error is None:
        try:
            after = look()
        except DeviceError as error:
            last = [f"{_LAST_LOOK}: {error}"]
    results = [
        build_result(record, request.plan, parity, [*filter(None, [reason]), *notes, *last])
        for record, parity, reason in zip(measured.records, parities, why, strict=True)
    ]
    return build_report(device, before, after, results, request.budget), measured.error
