"""A fake phone is asked what it is and how it is; its settings come back whatever happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_device import FakeDevice
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.adb import open_phone
from android_bench.device import (
    Device,
    fixed_performance,
    read_device,
    read_gpu,
    read_load,
    read_low_power,
    read_properties,
    read_state,
    stay_awake,
)
from android_bench.errors import DeviceLost
from android_bench.machine import Completed
from android_bench.read_battery import Battery, read_battery
from android_bench.read_cores import affinity_mask, biggest_first, choose_cluster, read_cores, read_cpuinfo
from android_bench.read_thermal import Thermal, read_thermal, read_zones
from android_bench.unknown import UNKNOWN

SAMPLES = Path(__file__).parent / "transcripts" / "phone"

# a setting is a file; what was asked is kept
SETTINGS = """folder=$ROOT/settings; mkdir -p "$folder"; echo "settings $*" >> "$ROOT/asked"
case $1 in
  get) cat "$folder/$3" 2>/dev/null || echo null;;
  put) echo "$4" > "$folder/$3";;
  delete) rm -f "$folder/$3";;
esac"""
SVC = 'echo "svc $*" >> "$ROOT/asked"; mkdir -p "$ROOT/settings"; echo 7 > "$ROOT/settings/stay_on_while_plugged_in"'


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")


@pytest.fixture
def phone_device(device: FakeDevice) -> FakeDevice:
    """A fake phone that answers like the one of the samples: two slow cores and four fast ones, capped."""
    device.install("getprop", f"cat '{SAMPLES}/getprop.txt'")
    device.install("dumpsys", f"cat '{SAMPLES}/dumpsys_'$1.txt 2>/dev/null || echo \"Can't find service: $1\" >&2")
    device.install("settings", SETTINGS)
    device.install("svc", SVC)
    for name in ("cmd", "input"):
        device.install(name, f'echo "{name} $*" >> "$ROOT/asked"')
    for cpu in range(6):
        folder = device.root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        values = ("0 1", 1800000, 1800000, 600000) if cpu < 2 else ("2 3 4 5", 2600000, 1400000, 1300000)
        names = ("related_cpus", "cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq")
        for name, value in zip(names, values, strict=True):
            (folder / name).write_text(f"{value}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    for zone, (kind, value) in enumerate([("cpu-0", "45200"), ("cpu-0", "46100"), ("pa-therm", "-40000")]):
        folder = device.root / f"sys/class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{kind}\n")
        (folder / "temp").write_text(f"{value}\n")
    (device.root / "proc").mkdir()
    (device.root / "proc/cpuinfo").write_text(sample("cpuinfo"))
    (device.root / "proc/loadavg").write_text("1.25 0.80 0.40 2/900 1234\n")
    return device


def asked(device: FakeDevice) -> list[str]:
    lines = (device.root / "asked").read_text().splitlines()
    return [line for line in lines if not line.startswith("settings get")]


def test_what_a_phone_is(phone_device: FakeDevice) -> None:
    with open_phone(None) as phone:
        found = read_device(phone)
    assert (found.serial, found.model, found.soc) == (phone_device.address, "Tango [dual] 5G", "T1000")
    assert (found.android, found.sdk, found.abi, found.gpu) == ("15", 35, "arm64-v8a", "ARM, Mali-T1000 MC4")
    assert not found.emulator and found.masks == ("3c", "3")
    slow, fast = found.cores
    assert (slow.features, slow.parts) == (("asimd", "asimddp", "fp"), ("0x41/0xd05",))
    assert (fast.max_khz, fast.features, fast.parts) == (2600000, UNKNOWN, UNKNOWN)  # asleep, not in /proc/cpuinfo
    written = json.loads(json.dumps(found.as_dict()))
    assert {"serial", "model", "soc", "abi", "android", "cores"} <= written.keys()
    assert [cluster["mask"] for cluster in written["cores"]] == ["3", "3c"]


def test_how_a_phone_is(phone_device: FakeDevice) -> None:
    with open_phone(None) as phone:
        found = read_state(phone)
    assert (found.thermal_status, found.thermal.overridden) == (1, True)
    assert found.thermal.temperatures == {"CPU": 44.5, "skin front": None}
    assert found.zones == {"cpu-0": 45.2, "cpu-0 (zone 1)": 46.1}
    assert found.battery == Battery(level=80, temperature_c=-1.5, powered="ac", faked=False)
    assert (found.low_power, found.screen, found.load) == (False, "asleep", 1.25)
    assert [cluster.cpus for cluster in found.capped] == [(2, 3, 4, 5)]
    written = json.loads(json.dumps(found.as_dict()))
    assert written["cores"][1] == {
        "cpus": [2, 3, 4, 5],
        "scaling_max_khz": 1400000,
        "cur_khz": 1300000,
        "governor": "schedutil",
    }


def test_the_screen_is_woken_and_put_to_sleep_again(phone_device: FakeDevice) -> None:
    setting = phone_device.root / "settings/stay_on_while_plugged_in"
    setting.parent.mkdir()
    setting.write_text("2\n")
    with open_phone(None) as phone, stay_awake(phone) as accepted:
        assert accepted and setting.read_text() == "7\n"
        assert asked(phone_device) == ["svc power stayon true", "input keyevent KEYCODE_WAKEUP"]
    assert setting.read_text() == "2\n"
    assert asked(phone_device)[2:] == [
        "settings put global stay_on_while_plugged_in 2",
        "input keyevent KEYCODE_SLEEP",
    ]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_settings_come_back_after_a_failure(phone_device: FakeDevice, failure: type[BaseException]) -> None:
    with pytest.raises(failure), open_phone(None) as phone, fixed_performance(phone) as fast, stay_awake(phone):
        assert fast
        raise failure
    assert asked(phone_device)[-1] == "cmd power set-fixed-performance-mode-enabled false"
    assert not (phone_device.root / "settings/stay_on_while_plugged_in").exists()  # as before: never set
    assert phone_device.is_clean()


def test_settings_come_back_when_the_phone_is_lost(phone_device: FakeDevice) -> None:
    with pytest.raises(DeviceLost), open_phone(None) as phone, fixed_performance(phone), stay_awake(phone):
        phone_device.lose()
        phone.run(["true"], timeout=10)
    assert phone_device.is_clean()
    assert "cmd power set-fixed-performance-mode-enabled false" in asked(phone_device)
    assert not (phone_device.root / "settings/stay_on_while_plugged_in").exists()


def test_a_phone_without_fixed_performance_says_so(device: FakeDevice) -> None:
    device.install("cmd", 'echo "Unknown command: $2"; exit 255')
    with open_phone(None) as phone, fixed_performance(phone) as accepted:
        assert not accepted


def test_nothing_is_set_on_this_computer() -> None:
    class Host:
        serial, folder = "host", "/nowhere"

        def run(self, argv: object, timeout: float) -> Completed:
            raise AssertionError(f"asked to run {argv}")

        push = pull = run

    with fixed_performance(Host()) as fast, stay_awake(Host()) as awake:
        assert not fast and not awake


def test_choosing_cores() -> None:
    clusters = read_cores("cpu0|0 1 2 3|1|1|1|x\ncpu4|4 5 6|2|2|2|x\ncpu7|7|3|3|3|x\n")
    chosen = {threads: choose_cluster(clusters, threads) for threads in (1, 2, 4, 6)}
    assert {threads: cluster.mask for threads, cluster in chosen.items() if cluster} == {
        1: "80",
        2: "70",
        4: "f",
        6: "f",
    }
    assert [cluster.mask for cluster in biggest_first(clusters)] == ["f", "70", "80"]
    assert choose_cluster((), 1) is None
    assert affinity_mask([]) == "0" and affinity_mask([0, 63]) == "8000000000000001"


@pytest.mark.parametrize("text", ["", "\n", "Can't find service: x", "cat: x: Permission denied", "\x00\xff", "::::"])
def test_what_tells_nothing_is_unknown(text: str) -> None:
    assert read_battery(text) == Battery() and read_thermal(text) == Thermal()
    assert read_cores(text, text) == () and read_cpuinfo(text) == {} and read_properties(text) == {}
    assert read_zones(text) == read_gpu(text) == read_load(text) == read_low_power(text) == UNKNOWN
    assert json.loads(json.dumps(Device("S1").as_dict()))["cores"] == []


@pytest.mark.parametrize("line", ["cpu0||1|1|1|x", "cpu0|0|a|1|1|x", "cpu0|0|1|1|1", "cpux|0|1|1|1|x", "|||||"])
def test_a_damaged_line_is_no_core(line: str) -> None:
    assert read_cores(line) == ()


@pytest.mark.parametrize(("text", "level"), [("level: 5\n  scale: 0", UNKNOWN), ("level: 5", UNKNOWN)])
def test_a_battery_without_a_scale_has_no_level(text: str, level: str) -> None:
    assert read_battery(f"Current Battery Service state:\n  {text}\n").level == level


_LINES = [line for path in sorted(SAMPLES.glob("*.txt")) for line in path.read_text(encoding="utf-8").splitlines(True)]


@settings(deadline=None, max_examples=60)  # a loaded machine is no failure
@given(st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(_LINES), st.text(max_size=9))).map("".join)))
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in (read_battery, read_thermal, read_zones, read_properties, read_gpu, read_load, read_low_power):
        json.dumps(read(text), default=vars)
    json.dumps([cluster.as_dict() for cluster in read_cores(text, text)])
    assert all(isinstance(cpu, int) for cpu in read_cpuinfo(text))
