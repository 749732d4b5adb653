"""Change a phone's settings for a while: steadier clocks, screen on. Restored in every case.

Before a setting is changed, a script that puts it back is written to the phone, where the guard of our workspace runs
it when this computer goes away in the middle.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence

from android_bench.errors import DeviceError
from android_bench.machine import Machine

UNDO_PREFIX = ".undo-"

# svc and cmd start a Java program: a second or two on a slow phone
_TIMEOUT_S = 20.0
_PLUGGED = ("settings", "get", "global", "stay_on_while_plugged_in")


@contextlib.contextmanager
def fixed_performance(machine: Machine) -> Iterator[bool]:
    """Fixed-performance mode within the block (Android 11 and newer): steadier clocks, not the fastest.

    Heat still wins.

    Yields:
        Whether the phone accepted it; False on this computer and on phones that lack it.
    """
    command = ("cmd", "power", "set-fixed-performance-mode-enabled")
    with _held(machine, "fixed-performance", (*command, "true"), [(*command, "false")]) as accepted:
        yield accepted


@contextlib.contextmanager
def stay_awake(machine: Machine) -> Iterator[bool]:
    """Screen on within the block, as long as the phone is plugged in; afterwards as it was, on or off.

    Yields:
        Whether the phone accepted it; False on this computer.
    """
    before = _answer(machine, _PLUGGED)
    restore: list[Sequence[str]] = [
        ("settings", "put", "global", "stay_on_while_plugged_in", before)
        if before.isdigit()
        else ("settings", "delete", "global", "stay_on_while_plugged_in")
    ]
    asleep = "mWakefulness=Asleep" in _answer(machine, ("dumpsys", "power"))
    if asleep:
        restore.append(("input", "keyevent", "KEYCODE_SLEEP"))
    with _held(machine, "stay-awake", ("svc", "power", "stayon", "true"), restore) as accepted:
        if asleep and accepted:
            machine.run(("input", "keyevent", "KEYCODE_WAKEUP"), _TIMEOUT_S)
        # svc ends with 0 whatever happens
        yield accepted and _answer(machine, _PLUGGED) not in ("", "0", "null")


@contextlib.contextmanager
def _held(machine: Machine, name: str, change: Sequence[str], restore: list[Sequence[str]]) -> Iterator[bool]:
    if machine.serial == "host":
        yield False
        return
    undo = f"{machine.folder}/{UNDO_PREFIX}{name}"
    script = "\n".join(map(shlex.join, restore))
    written = machine.run(("sh", "-c", 'printf "%s\\n" "$1" > "$2"', "sh", script, undo), _TIMEOUT_S)
    try:
        yield written.status == 0 and machine.run(change, _TIMEOUT_S).status == 0
    finally:
        # where the phone does not answer, its guard does it
        with contextlib.suppress(DeviceError):
            machine.run(("sh", "-c", 'sh "$1"; rm -f "$1"', "sh", undo), _TIMEOUT_S)


def _answer(machine: Machine, argv: Sequence[str]) -> str:
    if machine.serial == "host":
        return ""
    done = machine.run(argv, _TIMEOUT_S)
    return done.stdout.decode(errors="replace").strip() if done.status == 0 else ""
