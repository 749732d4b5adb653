"""The protocol of a measurement: fit device, launches in turns, a look at the heat around each, nothing left out.

Two or more artifacts take turns (A B A B): what the phone does meanwhile then happens to both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from android_bench.conditions import Clocks, snapshot, unmet_conditions
from android_bench.device import DeviceState
from android_bench.errors import DeviceError
from android_bench.gate import DEFAULT_LAUNCHES
from android_bench.launch_once import Clock, launch_once
from android_bench.machine import Machine
from android_bench.prepare import Prepared
from android_bench.runners.ncnn import slower_with_threads
from android_bench.runners.runner import Finding, Measurement, RunnerFailed

Announce = Callable[[str], None]
ReadState = Callable[[], DeviceState]
CAMERA_HZ = 30.0
_COOLING_STEP_S = 15.0
_MINUTE_S = 60.0


@dataclass(frozen=True)
class Plan:
    """How many launches, how long to wait for a cool device, and how long to run at the camera's rate (0: not).

    ``clocks``: whether clocks that are held down at the start speak against measuring.
    """

    launches: int = DEFAULT_LAUNCHES
    cooldown_limit_s: float = 300.0
    sustained_s: float = 0.0
    clocks: Clocks = "free"


@dataclass
class Record:
    """What was measured of one artifact. ``lost`` is the sentence of the error that ended it, empty when it ended well.

    ``launches`` are the report's; ``measurements`` those that gave a time, in the same order.
    """

    prepared: Prepared
    launches: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    preconditions: tuple[str, ...] = ()
    sustained: list[dict[str, Any]] = field(default_factory=list)
    lost: str = ""

    @property
    def refused(self) -> bool:
        """Whether a launch, or the job itself, was refused: another launch would be, too."""
        return any(finding.weight == "refuses" for finding in self.findings)

    def note(self, findings: Sequence[Finding]) -> None:
        """Keep each finding once."""
        known = {finding.name for finding in self.findings}
        self.findings += [finding for finding in findings if finding.name not in known]


@dataclass(frozen=True)
class Measured:
    """All records, and the error that ended them early, if one did."""

    records: tuple[Record, ...]
    error: DeviceError | None = None


def measure(
    machine: Machine,
    prepared: Sequence[Prepared],
    plan: Plan,
    read_state: ReadState,
    announce: Announce = lambda message: None,
    clock: Clock | None = None,
) -> Measured:
    """Measure every artifact; a device that is lost ends it, with what was measured until then.

    Args:
        machine: a phone, or this computer.
        prepared: the artifacts, on the machine already.
        plan: how many launches, and more.
        read_state: asks the machine how it is.
        announce: gets a sentence as each step begins or ends.
        clock: for tests.
    """
    clock = clock or Clock()
    records = tuple(Record(entry, findings=list(entry.refusals)) for entry in prepared)
    try:
        unmet = wait_until_fit(read_state, plan, announce, clock)
        for record in records:
            record.preconditions = unmet
        for number in range(plan.launches):
            for record in records:
                if not record.refused:
                    _launch(machine, record, number, plan, read_state, announce, clock)
        for record in records:
            if not record.refused:
                _prove_threads(machine, record, announce, clock)
                _sustain(machine, record, plan, read_state, announce, clock)
    except DeviceError as error:
        cut = [record for record in records if not record.refused and not _is_complete(record, plan)]
        for record in cut or records:
            record.lost = str(error)
        return Measured(records, error)
    return Measured(records)


def _is_complete(record: Record, plan: Plan) -> bool:
    minutes = math.ceil(plan.sustained_s / _MINUTE_S)
    return len(record.launches) == plan.launches and len(record.sustained) == minutes


def wait_until_fit(read_state: ReadState, plan: Plan, announce: Announce, clock: Clock) -> tuple[str, ...]:
    """Wait for a cool device, as long as the plan allows; returns in sentences what still speaks against measuring."""
    begun, limit_s = clock.now(), plan.cooldown_limit_s
    while True:
        unmet = unmet_conditions(read_state(), plan.clocks)
        waited = clock.now() - begun
        hopeless = not unmet or not all(condition.cools for condition in unmet)
        if hopeless or waited >= limit_s:
            after = f" (after {waited:.0f} s of waiting)" if waited >= _COOLING_STEP_S else ""
            return tuple(condition.text + after for condition in unmet)
        announce(f"waiting for the device to cool down: {unmet[0].text}")
        clock.sleep(min(_COOLING_STEP_S, limit_s - waited))


def _launch(
    machine: Machine,
    record: Record,
    number: int,
    plan: Plan,
    read_state: ReadState,
    announce: Announce,
    clock: Clock,
) -> None:
    prepared = record.prepared
    launch = replace(prepared.launch, scratch=f"{prepared.launch.scratch}-{number}")
    before = snapshot(read_state())
    named = f"{prepared.job.title}, launch {number + 1} of {plan.launches}"
    try:
        measured, wall_s = launch_once(machine, prepared, launch, clock)
    except RunnerFailed as failure:
        record.launches.append({"refused": failure.name, "why": str(failure), "before": before})
        record.note([Finding(failure.name, str(failure))])
        announce(f"{named}: {failure}")
        return
    entry = describe_launch(measured) | {"wall_s": wall_s, "before": before, "after": snapshot(read_state())}
    if measured.refusals:
        entry |= {"refused": measured.refusals[0].name, "why": measured.refusals[0].text}
    record.launches.append(entry)
    record.measurements.append(measured)
    record.note(measured.findings)
    announce(f"{named}: {_live(measured)}{_heat(entry['after'])}")


def describe_launch(measured: Measurement) -> dict[str, Any]:
    """A launch as the report has it: always ``median_ms`` and ``p90_ms``, of the rest what the runner told."""
    told = {
        name: getattr(measured, name)
        for name in (
            *("mean_ms", "min_ms", "max_ms", "std_ms", "p5_ms", "p95_ms", "first_ms", "init_ms"),
            *("runs", "warmup_runs", "kernels", "cpu_share", "source", "delegation", "proof", "gpu_name"),
            *("cpu_nodes", "graph_nodes"),
        )
        if getattr(measured, name) not in (None, "")
    }
    return {"median_ms": measured.median_ms, "p90_ms": measured.p90_ms, **told}


def _prove_threads(machine: Machine, record: Record, announce: Announce, clock: Clock) -> None:
    """Where a runner does not tell how many threads it used: once with one thread, and compare."""
    threads = record.prepared.launch.threads
    if threads < 2 or not any(finding.name == "threads-not-proved" for finding in record.findings):
        return
    announce(f"{record.prepared.job.title}: once with one thread, to see that {threads} were used")
    try:
        single, _ = launch_once(machine, record.prepared, replace(record.prepared.launch, threads=1), clock)
    except RunnerFailed as failure:
        record.note([Finding(failure.name, str(failure))])
        return
    fastest = min(measured.value_ms for measured in record.measurements)
    refusal = slower_with_threads(single.value_ms, fastest, threads)
    record.findings = [finding for finding in record.findings if finding.name != "threads-not-proved"]
    record.note([refusal] if refusal else [])


def _sustain(
    machine: Machine,
    record: Record,
    plan: Plan,
    read_state: ReadState,
    announce: Announce,
    clock: Clock,
) -> None:
    """Run at the camera's rate, a launch a minute: the first minute tells little about the tenth."""
    left = plan.sustained_s
    while left > 0 and not record.refused:
        minute = len(record.sustained) + 1
        seconds = min(_MINUTE_S, left)
        scratch = f"{record.prepared.launch.scratch}-minute-{minute}"
        launch = replace(
            record.prepared.launch, scratch=scratch, runs=1, seconds=seconds, warmup_s=0.0, frequency=CAMERA_HZ
        )
        try:
            measured, wall_s = launch_once(machine, record.prepared, launch, clock)
        except RunnerFailed as failure:
            record.note([Finding(failure.name, str(failure))])
            return
        record.note(measured.findings)
        entry = describe_launch(measured) | {"minute": minute, "wall_s": wall_s, "after": snapshot(read_state())}
        record.sustained.append(entry)
        announce(f"{record.prepared.job.title}, minute {minute}: {_live(measured)}{_heat(entry['after'])}")
        left -= seconds


def _live(measured: Measurement) -> str:
    if measured.refusals:
        return f"refused, {measured.refusals[0].text}"
    middle = f"{'mean' if measured.median_ms is None else 'median'} {measured.value_ms:.2f} ms"
    tail = measured.p90_ms or measured.p95_ms
    return middle if tail is None else f"{middle}, p{90 if measured.p90_ms else 95} {tail:.2f} ms"


def _heat(shot: dict[str, Any]) -> str:
    told = []
    if isinstance(shot["battery_c"], float):
        told.append(f"battery {shot['battery_c']:.0f} C")
    if isinstance(shot["thermal_status"], int):
        told.append(f"thermal status {shot['thermal_status']}")
    return f" ({', '.join(told)})" if told else ""
