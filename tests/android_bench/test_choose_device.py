"""The right device, or a sentence that says why there is none."""

from __future__ import annotations

import pytest

from android_bench.choose_device import SeenDevice, choose_device, parse_devices
from android_bench.errors import (
    DeviceError,
    NoDevice,
    Offline,
    RequestError,
    SeveralDevices,
    Unauthorized,
    UnsupportedDevice,
)

READY = SeenDevice("R5CX", "device", "Tango")


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("unauthorized", Unauthorized, "accept the question"),
        ("authorizing", Unauthorized, "accept the question"),
        ("no permissions", Unauthorized, "udev"),
        ("offline", Offline, "plug it in again"),
        ("connecting", DeviceError, "connecting"),
        ("recovery", UnsupportedDevice, "adb reboot"),
        ("sideload", UnsupportedDevice, "adb reboot"),
        ("bootloader", UnsupportedDevice, "adb reboot"),
        ("host", DeviceError, "host"),
    ],
)
@pytest.mark.parametrize("serial", ["S1", None])
def test_a_state_that_cannot_be_used(state: str, error: type[Exception], words: str, serial: str | None) -> None:
    with pytest.raises(error, match=words) as caught:
        choose_device([SeenDevice("S1", state)], serial)
    assert type(caught.value) is error and "S1" in str(caught.value)


def test_the_only_usable_one_is_taken_and_a_named_one_preferred() -> None:
    other = SeenDevice("0A1B", "unauthorized")
    second = SeenDevice("R6", "device")
    assert choose_device([other, READY], None) is READY
    assert choose_device([READY, second], "R6") is second


def test_none_and_several() -> None:
    with pytest.raises(NoDevice, match="USB debugging"):
        choose_device([], None)
    with pytest.raises(NoDevice, match=r"adb sees R5CX \(Tango, device\)"):
        choose_device([READY], "R5")  # no guessing from a beginning
    with pytest.raises(NoDevice, match="none of the devices"):
        choose_device([SeenDevice("a", "offline"), SeenDevice("b", "unauthorized")], None)
    with pytest.raises(SeveralDevices, match=r"R5CX.*R6") as caught:
        choose_device([READY, SeenDevice("R6", "device")], None)
    assert isinstance(caught.value, RequestError) and caught.value.exit_code == 2


def test_serials_of_all_kinds_are_parsed() -> None:
    listing = (
        "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n"
        "adb-R5-x1._adb-tls-connect._tcp device product:p model:M transport_id:1\n"
        "[fe80::1]:5555         device transport_id:2\n(no serial number)     offline\n\n"
    )
    assert [device.serial for device in parse_devices(listing)][:2] == [
        "adb-R5-x1._adb-tls-connect._tcp",
        "[fe80::1]:5555",
    ]
    assert parse_devices("") == [] and parse_devices("error: protocol fault") != [READY]
