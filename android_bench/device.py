"""What a phone is, and what state it is in: facts without root, "unknown" where the phone does not tell."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from android_bench.hold_settings import fixed_performance, stay_awake
from android_bench.machine import Machine
from android_bench.read_battery import Battery, read_battery
from android_bench.read_cores import CORES_SCRIPT, Cluster, biggest_first, read_cores
from android_bench.read_thermal import ZONES_SCRIPT, Thermal, read_thermal, read_zones
from android_bench.unknown import UNKNOWN, Unknown, find_word

__all__ = ["Device", "DeviceState", "fixed_performance", "read_device", "read_state", "stay_awake"]

# dumpsys gives up on a service by itself after 10 s
_FACT_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Device:
    """What does not change while we measure. ``cores``: clusters, slowest first; empty when unknown.

    ``soc``: ro.soc.model, before Android 12 the board (``kona``). ``gpu``: vendor and renderer as OpenGL ES names them.
    ``emulator``: an emulator's numbers say nothing about phones.
    """

    serial: str
    model: str | Unknown = UNKNOWN
    manufacturer: str | Unknown = UNKNOWN
    soc: str | Unknown = UNKNOWN
    abi: str | Unknown = UNKNOWN
    android: str | Unknown = UNKNOWN
    sdk: int | Unknown = UNKNOWN
    fingerprint: str | Unknown = UNKNOWN
    gpu: str | Unknown = UNKNOWN
    emulator: bool = False
    cores: tuple[Cluster, ...] = ()

    @property
    def masks(self) -> tuple[str, ...]:
        """Affinity masks of the clusters, the one with most cores first, the faster of two equals first."""
        return tuple(cluster.mask for cluster in biggest_first(self.cores))

    def as_dict(self) -> dict[str, Any]:
        """The report's ``device`` without its states."""
        return {**asdict(self), "cores": [cluster.as_dict() for cluster in self.cores]}


@dataclass(frozen=True)
class DeviceState:
    """What changes while we measure.

    ``low_power``: power saving is on. ``screen``: awake, asleep, dreaming or dozing. ``load``: processes that want to
    run, mean of a minute. ``zones``: the kernel's thermal zones, degrees Celsius. ``cores``: the clusters' clocks now.
    """

    thermal: Thermal = field(default_factory=Thermal)
    battery: Battery = field(default_factory=Battery)
    zones: dict[str, float] | Unknown = UNKNOWN
    low_power: bool | Unknown = UNKNOWN
    screen: str | Unknown = UNKNOWN
    load: float | Unknown = UNKNOWN
    cores: tuple[Cluster, ...] = ()

    @property
    def thermal_status(self) -> int | Unknown:
        """0 none .. 3 severe .. 6 shutdown."""
        return self.thermal.status

    @property
    def capped(self) -> tuple[Cluster, ...]:
        """Clusters whose clock is held down."""
        return tuple(cluster for cluster in self.cores if cluster.is_capped is True)

    def as_dict(self) -> dict[str, Any]:
        """The report's ``state_before`` and ``state_after``."""
        clocks = ("cpus", "scaling_max_khz", "cur_khz", "governor")
        return {
            "thermal_status": self.thermal.status,
            "thermal_overridden": self.thermal.overridden,
            "temperatures_c": self.thermal.temperatures,
            "zones_c": self.zones,
            "battery": asdict(self.battery),
            "low_power": self.low_power,
            "screen": self.screen,
            "load": self.load,
            "cores": [{name: getattr(cluster, name) for name in clocks} for cluster in self.cores],
        }


def read_device(machine: Machine) -> Device:
    """Ask a phone what it is; what it does not tell is unknown. Raises DeviceLost, CommandTimeout."""
    told = read_properties(_ask(machine, "getprop"))
    sdk = told.get("ro.build.version.sdk", "")
    return Device(
        serial=machine.serial,
        model=told.get("ro.product.model", UNKNOWN),
        manufacturer=told.get("ro.product.manufacturer", UNKNOWN),
        soc=_first(told, "ro.soc.model", "ro.board.platform", "ro.hardware"),
        abi=_first(told, "ro.product.cpu.abi", "ro.product.cpu.abilist"),
        android=told.get("ro.build.version.release", UNKNOWN),
        sdk=int(sdk) if sdk.isdigit() else UNKNOWN,
        fingerprint=told.get("ro.build.fingerprint", UNKNOWN),
        gpu=read_gpu(_ask(machine, "dumpsys", "SurfaceFlinger")),
        emulator="1" in (told.get("ro.boot.qemu"), told.get("ro.kernel.qemu")),
        cores=read_cores(_ask(machine, "sh", "-c", CORES_SCRIPT), _ask(machine, "cat", "/proc/cpuinfo")),
    )


def read_state(machine: Machine) -> DeviceState:
    """Ask a phone how it is now; what it does not tell is unknown. Raises DeviceLost, CommandTimeout."""
    return DeviceState(
        thermal=read_thermal(_ask(machine, "dumpsys", "thermalservice")),
        battery=read_battery(_ask(machine, "dumpsys", "battery")),
        zones=read_zones(_ask(machine, "sh", "-c", ZONES_SCRIPT)),
        low_power=read_low_power(_ask(machine, "settings", "get", "global", "low_power")),
        screen=find_word(r"^\s*mWakefulness=(\w+)", _ask(machine, "dumpsys", "power")).lower(),
        load=read_load(_ask(machine, "cat", "/proc/loadavg")),
        cores=read_cores(_ask(machine, "sh", "-c", CORES_SCRIPT)),
    )


def read_properties(listing: str) -> dict[str, str]:
    """Key -> value of a ``getprop`` listing; empty values count as not told."""
    return {key: value for key, value in re.findall(r"^\[(.+?)\]: \[(.*)\]\s*$", listing, flags=re.MULTILINE) if value}


def read_gpu(surface_flinger: str) -> str | Unknown:
    """Vendor and renderer of ``dumpsys SurfaceFlinger``; its third part, the driver's version, is left out."""
    names = find_word(r"^\s*GLES: (.+)$", surface_flinger).split(", ")
    return ", ".join(names[:2]) if len(names) > 1 else UNKNOWN


def read_low_power(setting: str) -> bool | Unknown:
    """Whether power saving is on; ``null`` is Android's word for a setting that was never touched: off."""
    return {"0": False, "null": False, "1": True}.get(setting.strip(), UNKNOWN)


def read_load(text: str) -> float | Unknown:
    """First number of /proc/loadavg."""
    match = re.match(r"(\d+\.\d+) ", text)
    return float(match[1]) if match else UNKNOWN


def _ask(machine: Machine, *argv: str) -> str:
    """What a command prints; nothing when it fails: a denied file and a missing tool tell nothing."""
    done = machine.run(argv, _FACT_TIMEOUT_S)
    return done.stdout.decode(errors="replace").replace("\r\n", "\n") if done.status == 0 else ""


def _first(told: dict[str, str], *keys: str) -> str | Unknown:
    value = next((told[key] for key in keys if key in told), UNKNOWN)
    return value.split(",")[0]
