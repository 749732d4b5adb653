"""Every recorded text of adb and Android is read as ``expected.json`` beside the recordings says.

Adding a transcript is adding a file and its row there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from android_bench.choose_device import parse_devices
from android_bench.device import read_properties
from android_bench.explain_failure import explain_failure, explain_transfer
from android_bench.read_battery import read_battery
from android_bench.read_cores import read_cores, read_cpuinfo
from android_bench.read_thermal import read_thermal
from android_bench.unknown import UNKNOWN

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
EXPECTED: dict[str, Any] = {}
if (FIXTURES / "expected.json").is_file():
    EXPECTED = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))


def read(name: str) -> str:
    path = FIXTURES / name
    if not path.is_file():
        pytest.skip(f"needs ../shared/fixtures/{name}, which is not beside this checkout")
    return path.read_text(encoding="utf-8")


def rows(prefix: str) -> list[Any]:
    absent = pytest.param("absent", marks=pytest.mark.skip(reason="needs ../shared/fixtures, not beside this checkout"))
    return sorted(name for name in EXPECTED if name.startswith(prefix)) or [absent]


@pytest.mark.parametrize("name", rows("android/dumpsys_battery"))
def test_battery(name: str) -> None:
    found = read_battery(read(name))
    assert {key: getattr(found, key) for key in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", rows("android/dumpsys_thermalservice"))
def test_thermal(name: str) -> None:
    found = read_thermal(read(name))
    for key, value in EXPECTED[name].items():
        if key in ("status", "hal_ready", "temperatures"):
            assert getattr(found, key) == value
        else:
            assert isinstance(found.temperatures, dict) and found.temperatures[key] == value


@pytest.mark.parametrize("name", rows("android/cpufreq"))
def test_cores(name: str) -> None:
    clusters = read_cores(read(name))
    capped = [list(cluster.cpus) for cluster in clusters if cluster.is_capped]
    expected = EXPECTED[name]
    assert [list(cluster.cpus) for cluster in clusters] == expected.get("clusters", [[0, 1, 2], [3, 4, 5, 6], [7]])
    assert [cluster.mask for cluster in clusters] == expected.get("masks", ["7", "78", "80"])
    assert capped == (expected["capped"] or [])


@pytest.mark.parametrize("name", rows("adb/devices_l"))
def test_devices(name: str) -> None:
    devices = parse_devices(read(name))
    states = {device.serial: device.state for device in devices}
    expected = EXPECTED[name]
    assert [device.serial for device in devices if device.is_usable] == expected["usable"]
    for state in ("unauthorized", "offline"):
        assert [serial for serial, found in states.items() if found == state] == expected[state]
    assert expected["other"].items() <= states.items()


def test_a_device_that_this_computer_may_not_open() -> None:
    (device,) = parse_devices(read("adb/devices_l_no_permissions.txt"))
    assert (device.serial, device.state) == ("8a1b2c3d", "no permissions")


ERRORS = {
    "two devices, no -s": "SeveralDevices",
    "unknown serial": "NoDevice",
    "offline": "Offline",
    "unauthorized": "Unauthorized",
    "connect refused": "NoDevice",
    "connect, no answer": "NoDevice",
    "connect, waiting for the prompt": "Unauthorized",
    "push to a read-only place": "NotWritable",
    "push, device lost": "DeviceLost",
    "pull of a missing file": "FileMissing",
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("prefix", ["adb:", "error:"])
def test_errors_of_adb_are_typed_whatever_their_prefix(case: str, prefix: str) -> None:
    lines = [line.split(" | ") for line in read("adb/errors.txt").splitlines() if not line.startswith("#")]
    text = next(text for name, _, text in lines if name == case)
    for explain in (explain_failure, explain_transfer):
        error = explain(text.replace("adb:", prefix), "S1", "adb push")
        assert type(error).__name__ == ERRORS[case]
        assert error.output and error.serial == "S1" and error.exit_code in (2, 6)


def test_properties_of_a_new_and_an_old_phone() -> None:
    new, old = (read_properties(read(f"android/{name}.txt")) for name in ("getprop", "getprop_old"))
    assert new["ro.soc.model"] == "SM8550" and new["ro.build.version.sdk"] == "34"
    assert "ro.soc.model" not in old and old["ro.board.platform"] == "kona"


def test_instruction_sets_of_clusters() -> None:
    little, middle, prime = read_cores(read("android/cpufreq.txt"), read("android/proc_cpuinfo.txt"))
    assert all({"asimddp", "i8mm", "asimdhp"} <= set(cluster.features) for cluster in (little, middle, prime))
    assert (little.parts, middle.parts, prime.parts) == (("0x41/0xd46",), ("0x41/0xd4d", "0x41/0xd47"), ("0x41/0xd4e",))
    assert "asimddp" not in read_cpuinfo(read("android/proc_cpuinfo_no_dotprod.txt"))[0].features


def test_a_denied_file_tells_nothing() -> None:
    denied = read("android/denied.txt")
    assert read_cores(denied) == () and read_cpuinfo(denied) == {} and read_properties(denied) == {}
    assert read_battery(denied).level == read_thermal(denied).status == read_thermal(denied).temperatures == UNKNOWN
