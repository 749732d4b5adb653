"""Read the phone's heat: ``dumpsys thermalservice`` (Android 10 and newer) and the kernel's thermal zones. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from android_bench.unknown import UNKNOWN, Unknown, find_int, find_truth

# one line a zone: number, type, temperature; what may not be read stays empty
ZONES_SCRIPT = """for zone in /sys/class/thermal/thermal_zone*; do
  type= temp=
  read -r type < "$zone/type"; read -r temp < "$zone/temp"
  echo "${zone##*thermal_zone}|$type|$temp"
done 2>/dev/null"""

# a zone counts in thousandths of a degree; the few that count otherwise cannot be told apart from a cold phone
_MILLI = 1000
_COLDEST_MILLI = 1000


@dataclass(frozen=True)
class Thermal:
    """``status``: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown.

    ``temperatures``: sensor -> degrees Celsius now, None for a sensor that is listed but absent. ``overridden``:
    somebody set the status by hand, so that it is not the phone's. ``hal_ready``: whether the vendor's sensors answer.
    """

    status: int | Unknown = UNKNOWN
    temperatures: dict[str, float | None] | Unknown = UNKNOWN
    overridden: bool | Unknown = UNKNOWN
    hal_ready: bool | Unknown = UNKNOWN


def read_thermal(text: str) -> Thermal:
    """What the text tells; cached temperatures, which may be hours old, are passed over."""
    _, found, below = text.partition("Current temperatures from HAL:")
    block = re.match(r"(?:\s*Temperature\{.*\}\s*?\n?)*", below)
    sensors = re.findall(
        r"Temperature\{mValue=(-?\d+(?:\.\d+)?|NaN), mType=-?\d+, mName=([^,]*),", block[0] if block else ""
    )
    temperatures = {name: float(value) if _is_measured(value) else None for value, name in sensors}
    return Thermal(
        status=find_int(r"^\s*Thermal Status: (\d+)", text),
        temperatures=temperatures if found and temperatures else UNKNOWN,
        overridden=find_truth(r"^\s*IsStatusOverride: (\w+)", text),
        hal_ready=find_truth(r"^\s*HAL Ready: (\w+)", text),
    )


def _is_measured(value: str) -> bool:
    return value != "NaN" and float(value) != 0.0


def read_zones(text: str) -> dict[str, float] | Unknown:
    """Zone -> degrees Celsius of what ``ZONES_SCRIPT`` prints; unknown when no zone can be read."""
    zones = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\d+)\|([^|]+)\|(\d+)", line)
        if match and int(match[3]) >= _COLDEST_MILLI:
            name = match[2] if match[2] not in zones else f"{match[2]} (zone {match[1]})"
            zones[name] = int(match[3]) / _MILLI
    return zones or UNKNOWN
