"""Read ``dumpsys battery``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from android_bench.unknown import UNKNOWN, Unknown, find_int


@dataclass(frozen=True)
class Battery:
    """``level`` in percent, ``temperature_c`` in degrees Celsius, ``powered``: usb, ac, wireless, dock, or None.

    ``faked``: somebody set the values by hand (``dumpsys battery set``), so that none of them is the battery's.
    """

    level: int | Unknown = UNKNOWN
    temperature_c: float | Unknown = UNKNOWN
    powered: str | Unknown | None = UNKNOWN
    faked: bool | Unknown = UNKNOWN


def read_battery(text: str) -> Battery:
    """What the text tells; all unknown when it is no battery state."""
    if "Current Battery Service state" not in text:
        return Battery()
    level, scale = find_int(r"^\s*level: (\d+)", text), find_int(r"^\s*scale: (\d+)", text)
    tenths = find_int(r"^\s*temperature: (-?\d+)", text)
    powered = re.findall(r"^\s*(\w+) powered: (true|false)", text, flags=re.MULTILINE)
    return Battery(
        level=UNKNOWN if UNKNOWN in (level, scale) or scale == 0 else round(100 * int(level) / int(scale)),
        temperature_c=UNKNOWN if tenths == UNKNOWN else tenths / 10,
        powered=next((name.lower() for name, value in powered if value == "true"), None) if powered else UNKNOWN,
        faked="(UPDATES STOPPED" in text,
    )
