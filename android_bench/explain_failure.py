"""Turn what adb says into a typed error with the next thing to do. Pure: text in, error out.

The texts are those of adb 29 and 34, its server and its device daemon; they differ in prefix and detail, so only the
words that both share are looked for.
"""

from __future__ import annotations

import re

from android_bench.errors import (
    BenchError,
    DeviceError,
    DeviceFull,
    DeviceLost,
    FileMissing,
    NoDevice,
    NotWritable,
    Offline,
    SeveralDevices,
    TransferFailed,
    Unauthorized,
)

_UNAUTHORIZED = "{device} waits for permission: unlock it and accept the question for USB debugging on its screen"
_OFFLINE = "{device} is offline: plug it in again (a network device: `adb disconnect`, then `adb connect`)"
_ABSENT = "{device} is not seen by adb: check the cable, USB debugging and the serial with `adb devices -l`"
_SEVERAL = "several devices are connected: name one with --device or ANDROID_SERIAL (`adb devices -l` lists them)"
_FULL = "{device} has no space left: free some (`adb shell df /data` tells how much there is)"
_READ_ONLY = "{device} does not let the shell write there: is /data/local/tmp writable (`adb shell ls -ld`)?"
_MISSING = "a file is missing on {device}, or may not be read"
_LOST = "{device} was lost in the middle: check cable and power, then run again"
_PERMISSIONS = (
    "this computer may not open {device}: on Linux install adb's udev rules (Debian package "
    "android-sdk-platform-tools-common), then plug it in again"
)

# first match wins: a push that fails says what the device said behind adb's own words
_KINDS: tuple[tuple[str, type[BenchError], str], ...] = (
    (r"no permissions|insufficient permissions", Unauthorized, _PERMISSIONS),
    (r"unauthorized|authorizing|failed to authenticate", Unauthorized, _UNAUTHORIZED),
    (r"more than one device", SeveralDevices, _SEVERAL),
    (r"No space left on device|Disk quota exceeded", DeviceFull, _FULL),
    (r"Permission denied|Read-only file system|Operation not permitted", NotWritable, _READ_ONLY),
    (r"No such file or directory|remote object", FileMissing, _MISSING),
    (r"failed to connect|device '.*' not found|no devices|no such device|unknown host service", NoDevice, _ABSENT),
    (r"device offline|still connecting|offline", Offline, _OFFLINE),
    (r"read copy response|connection reset|protocol fault|closed|EOF|Broken pipe", DeviceLost, _LOST),
)


def explain_failure(
    text: str, serial: str = "", command: str = "", default: type[BenchError] = DeviceError
) -> BenchError:
    """The typed error for a text of adb; ``default`` with the text itself where the words are not known."""
    device = f"device {serial}" if serial else "the device"
    for pattern, kind, message in _KINDS:
        if re.search(pattern, text, flags=re.IGNORECASE):
            return kind(message.format(device=device), serial=serial, command=command, output=text)
    said = " ".join(text.split()) or "nothing"
    return default(f"adb failed on {device}; it said: {said}", serial=serial, command=command, output=text)


def explain_transfer(text: str, serial: str, command: str) -> BenchError:
    """The typed error for a failed push or pull."""
    return explain_failure(text, serial, command, default=TransferFailed)
