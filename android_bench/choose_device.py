"""Choose a device among those that adb sees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from android_bench.errors import BenchError, NoDevice, SeveralDevices, UnsupportedDevice
from android_bench.explain_failure import explain_failure

_USABLE = "device"


@dataclass(frozen=True)
class SeenDevice:
    """A line of ``adb devices -l``. ``state``: device, unauthorized, offline, recovery ...; ``model`` may be empty."""

    serial: str
    state: str
    model: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether commands can be sent to it."""
        return self.state == _USABLE

    def __str__(self) -> str:
        return f"{self.serial} ({', '.join(part for part in (self.model, self.state) if part)})"


def parse_devices(listing: str) -> list[SeenDevice]:
    """The devices of ``adb devices -l``, with or without its header; messages of a starting daemon are passed over."""
    _, header, below = listing.partition("List of devices attached")
    devices = []
    for line in (below if header else listing).splitlines():
        fields = line.split(maxsplit=1)
        if len(fields) != 2 or line.startswith("*"):
            continue
        serial, rest = fields
        model = re.search(r"\bmodel:(\S+)", rest)
        # the state may be a sentence: "no permissions (user in plugdev group; ...)"
        state = re.split(r"\s+(?:\(|usb:|product:|model:|device:|transport_id:)", rest)[0]
        devices.append(SeenDevice(serial, state.strip(), model.group(1) if model else ""))
    return devices


def choose_device(devices: Sequence[SeenDevice], serial: str | None) -> SeenDevice:
    """The device named ``serial``, or the only usable one.

    Raises:
        SeveralDevices: none named and more than one usable. NoDevice: nothing there.
        Unauthorized, Offline, UnsupportedDevice: it is there and cannot be used; the message says why.
    """
    if serial is None:
        usable = [device for device in devices if device.is_usable]
        if len(usable) > 1:
            raise SeveralDevices(
                f"{len(usable)} devices are usable: {_list(usable)}; name one with --device or ANDROID_SERIAL"
            )
        if usable:
            return usable[0]
        if not devices:
            raise NoDevice(
                "adb sees no device: connect a phone with USB debugging switched on, or measure here with --device host"
            )
        if len(devices) > 1:
            raise NoDevice(f"none of the devices that adb sees is usable: {_list(devices)}")
        raise _unusable(devices[0])
    chosen = next((device for device in devices if device.serial == serial), None)
    if chosen is None:
        seen = f"adb sees {_list(devices)}" if devices else "adb sees none: connect it, with USB debugging switched on"
        raise NoDevice(f"no device {serial}: {seen}", serial=serial)
    if not chosen.is_usable:
        raise _unusable(chosen)
    return chosen


def _list(devices: Sequence[SeenDevice]) -> str:
    return ", ".join(map(str, devices))


def _unusable(device: SeenDevice) -> BenchError:
    if device.state in ("recovery", "sideload", "bootloader", "rescue"):
        return UnsupportedDevice(
            f"device {device.serial} is in {device.state}: start Android on it (`adb reboot`)", serial=device.serial
        )
    return explain_failure(device.state, device.serial)
