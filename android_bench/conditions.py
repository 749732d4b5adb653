"""When a device is fit to be measured, and what a snapshot of it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from android_bench.device import DeviceState
from android_bench.read_cores import Cluster
from android_bench.unknown import Unknown

Clocks = Literal["free", "held"]
"""``held``: somebody holds the clocks down on purpose (fixed-performance mode, the owner of a computer)."""

MIN_BATTERY = 30
"""Percent: phones lower their clocks on a nearly empty battery."""
MAX_BATTERY_C = 35.0


@dataclass(frozen=True)
class Unmet:
    """A precondition that does not hold. ``cools``: waiting may help."""

    text: str
    cools: bool


def unmet_conditions(state: DeviceState, clocks: Clocks = "free") -> tuple[Unmet, ...]:
    """What speaks against measuring now; what the device does not tell speaks neither way.

    Free clocks that cannot reach the hardware's maximum are held down by heat, and times are then too long: a wait may
    help. Where they stay down, the number is not of the phone as it can be.
    """
    battery, found = state.battery, []
    if isinstance(state.thermal_status, int) and state.thermal_status > 0:
        found.append(Unmet(f"thermal status {state.thermal_status}, 0 is wanted", cools=True))
    if isinstance(battery.temperature_c, (int, float)) and battery.temperature_c > MAX_BATTERY_C:
        found.append(Unmet(f"battery at {battery.temperature_c:g} C, at most {MAX_BATTERY_C:g} wanted", cools=True))
    if clocks == "free" and state.capped:
        found.append(Unmet(describe_capped(state.capped), cools=True))
    if isinstance(battery.level, int) and battery.level < MIN_BATTERY:
        found.append(Unmet(f"battery at {battery.level} %, at least {MIN_BATTERY} wanted: charge it", cools=False))
    if battery.faked is True:
        text = "somebody set the battery's values by hand: adb shell dumpsys battery reset"
        found.append(Unmet(text, cools=False))
    if state.thermal.overridden is True:
        text = "somebody set the thermal status by hand: adb shell cmd thermalservice reset"
        found.append(Unmet(text, cools=False))
    if state.low_power is True:
        found.append(Unmet("power saving is on: switch it off", cools=False))
    return tuple(found)


def describe_capped(clusters: Sequence[Cluster]) -> str:
    """Which clocks are held down, and where: ``cores 4-6 may run at 1.50 of 2.80 GHz``."""
    told = (
        f"{_span(cluster.cpus)} may run at {_ghz(cluster.scaling_max_khz)} of {_ghz(cluster.max_khz)} GHz"
        for cluster in clusters
    )
    return f"clocks are held down: {', '.join(told)}"


def _span(cpus: Sequence[int]) -> str:
    if len(cpus) == 1:
        return f"core {cpus[0]}"
    whole = list(cpus) == list(range(cpus[0], cpus[-1] + 1))
    return f"cores {cpus[0]}-{cpus[-1]}" if whole else f"cores {', '.join(map(str, cpus))}"


def _ghz(khz: int | Unknown) -> str:
    return f"{khz / 1e6:.2f}" if isinstance(khz, int) else khz


def snapshot(state: DeviceState) -> dict[str, Any]:
    """What is kept of a state around every launch: heat and clocks; cores by number, kHz."""
    return {
        "thermal_status": state.thermal_status,
        "battery_c": state.battery.temperature_c,
        "load": state.load,
        "scaling_max_khz": _by_core(state, "scaling_max_khz"),
        "cur_khz": _by_core(state, "cur_khz"),
    }


def _by_core(state: DeviceState, clock: str) -> dict[str, Any]:
    return {str(cluster.cpus[0]): getattr(cluster, clock) for cluster in state.cores}
