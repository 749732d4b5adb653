"""Whatever a phone does: a typed error with its exit code in good time, and nothing of ours left on the phone.

The real adb client, our code, and a fake phone that misbehaves. Every test ends with a phone that is clean: no
process, no file, no lock; where the phone was away or dead, as soon as it is back.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_device import FakeDevice

from android_bench import adb_program, phone, workspace
from android_bench.adb import open_phone
from android_bench.device import read_device, read_state
from android_bench.errors import (
    BenchError,
    CommandTimeout,
    DeviceFull,
    DeviceLost,
    NoDevice,
    NotWritable,
    Offline,
    SeveralDevices,
    Unauthorized,
    UnsupportedDevice,
)
from android_bench.unknown import UNKNOWN

SHELLS = [path for name in ("dash", "mksh", "bash") if (path := shutil.which(name))]

# a silent program beside a child of its own, as benchmarks are; neither minds TERM
SLOW = 'trap "" TERM; echo begun; sleep 0.3; : > started; sleep 60 & sleep 60; wait'


@contextmanager
def refused(kind: type[BenchError], code: int, within: float) -> Iterator[pytest.ExceptionInfo[BenchError]]:
    """The block fails with this very error, code and time limit, in words that say what to do."""
    begin = time.monotonic()
    with pytest.raises(kind) as caught:
        yield caught
    assert type(caught.value) is kind and caught.value.exit_code == code
    assert time.monotonic() - begin < within
    assert ":" in str(caught.value), "no next thing to do"


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(os.urandom(3_000_000))
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone that does not answer is given up sooner than a real one would be."""
    monkeypatch.setattr(workspace, "_STOP_TIMEOUT_S", 1.0)
    monkeypatch.setattr(workspace, "_RELEASE_TIMEOUT_S", 3.0)
    monkeypatch.setattr(adb_program, "_SETTLE_S", 1.0)


@pytest.mark.parametrize("shell", SHELLS)
def test_lost_in_the_middle_of_a_run(make_device: Callable[..., FakeDevice], shell: str) -> None:
    device = make_device(shell=shell)
    device.when_exists("data/local/tmp/mmx/run/started", device.lose)
    with refused(DeviceLost, 6, within=10) as caught, open_phone(device.address) as opened:
        opened.run(["sh", "-c", SLOW], timeout=30)
    assert caught.value.serial == device.address and "sleep 60" in caught.value.command
    assert caught.value.output == "begun\n"
    assert device.is_clean()


def test_lost_in_the_middle_of_a_push(device: FakeDevice, big_file: Path) -> None:
    with refused(DeviceLost, 6, within=15), open_phone(device.address) as opened:
        device.lose_after(received=1_000_000)
        opened.push(big_file, "model.tflite")
    assert device.is_clean()


@pytest.mark.parametrize("serial", ["named", "not named"])
def test_unauthorized(make_device: Callable[..., FakeDevice], serial: str) -> None:
    device = make_device(mode="unauthorized")
    with refused(Unauthorized, 6, within=20) as caught, open_phone(device.address if serial == "named" else None):
        pass
    assert "accept the question" in str(caught.value) and device.address in str(caught.value)
    assert device.is_clean()


@pytest.mark.usefixtures("impatient")
def test_offline(make_device: Callable[..., FakeDevice]) -> None:
    device = make_device(mode="silent", connect=False)
    with refused(Offline, 6, within=30), open_phone(device.address):
        pass
    assert device.is_clean()


@pytest.mark.usefixtures("server")
def test_a_network_device_that_is_not_there() -> None:
    with refused(NoDevice, 6, within=10) as caught, open_phone("127.0.0.1:1"):
        pass
    assert "127.0.0.1:1" in str(caught.value)


def test_a_network_device_that_came_back_is_connected_again(device: FakeDevice) -> None:
    with open_phone(device.address):
        device.lose()
    device.plug_in()
    with open_phone(device.address) as opened:
        assert opened.run(["true"], timeout=10).status == 0
    assert device.is_clean()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_program_that_does_not_end_is_killed(make_device: Callable[..., FakeDevice], shell: str) -> None:
    device = make_device(shell=shell)
    with open_phone(device.address) as opened:
        with refused(CommandTimeout, 6, within=5) as caught:
            opened.run(["sh", "-c", SLOW], timeout=1)
        assert caught.value.output == "begun\n" and not hasattr(caught.value, "__notes__")
        assert not [line for line in device.processes() if "sleep 60" in line]
        assert opened.run(["echo", "still here"], timeout=10).stdout == b"still here\n"
    assert device.is_clean()


@pytest.mark.usefixtures("impatient")
def test_a_phone_that_hangs(device: FakeDevice) -> None:
    with refused(CommandTimeout, 6, within=10) as caught, open_phone(device.address) as opened:
        device.when_exists("data/local/tmp/mmx/run/started", device.hang)
        opened.run(["sh", "-c", SLOW], timeout=2)
    assert "did not confirm" in caught.value.__notes__[0]
    device.resume()
    assert device.is_clean()


def test_no_space_for_a_file(device: FakeDevice, big_file: Path) -> None:
    device.space = 1_000_000
    with open_phone(device.address) as opened:
        with refused(DeviceFull, 6, within=15):
            opened.push(big_file, "model.tflite")
        assert sorted(path.name for path in (device.workspace / "run").iterdir()) == [".running"]
    assert device.is_clean()


def test_no_space_for_the_folder(device: FakeDevice) -> None:
    device.install("mkdir", "echo \"mkdir: '/data/local/tmp/mmx': No space left on device\" >&2; exit 1")
    with refused(DeviceFull, 6, within=10), open_phone(device.address):
        pass
    assert device.is_clean()


@pytest.mark.parametrize(("signal", "status"), [("SEGV", 139), ("KILL", 137), ("ABRT", 134)])
def test_a_runner_that_dies_is_told_by_its_status(device: FakeDevice, signal: str, status: int) -> None:
    with open_phone(device.address) as opened:
        done = opened.run(["sh", "-c", f"echo half; kill -{signal} $$"], timeout=10)
        assert (done.status, done.stdout) == (status, b"half\n")
    assert device.is_clean()


def test_a_runner_killed_by_somebody_else(device: FakeDevice) -> None:
    def kill() -> None:  # as Android's low memory killer does: the program alone
        opened_shell = next(path for path in (device.workspace / "run/.running").iterdir())
        children = Path(f"/proc/{opened_shell.name}/task/{opened_shell.name}/children").read_text().split()
        for child in children:
            os.kill(int(child), 9)

    device.when_exists("data/local/tmp/mmx/run/started", kill)
    with open_phone(device.address) as opened:
        done = opened.run(["sh", "-c", "echo begun; : > started; exec sleep 60"], timeout=20)
        assert (done.status, done.stdout) == (137, b"begun\n")
    assert device.is_clean()


def test_output_cut_off_is_no_result(device: FakeDevice) -> None:
    with refused(DeviceLost, 6, within=10) as caught, open_phone(device.address) as opened:
        device.lose_after(sent=100_000)
        opened.run(["sh", "-c", "yes 'Inference timings in us: Init: 5685' | head -n 100000"], timeout=30)
    assert 0 < len(caught.value.output) <= 100_000
    assert device.is_clean()


def test_two_devices_and_no_serial(make_device: Callable[..., FakeDevice]) -> None:
    first, second = make_device(), make_device()
    with refused(SeveralDevices, 2, within=10) as caught, open_phone(None):
        pass
    assert first.address in str(caught.value) and second.address in str(caught.value)
    with open_phone(second.address) as opened:
        assert opened.serial == second.address
    assert first.is_clean() and second.is_clean()


def test_the_serial_of_the_environment_counts(
    make_device: Callable[..., FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_device(), make_device()
    monkeypatch.setenv("ANDROID_SERIAL", first.address)
    with open_phone(None) as opened:
        assert opened.serial == first.address
    with open_phone(second.address) as opened:
        assert opened.serial == second.address


def test_a_phone_that_reboots_in_the_middle(device: FakeDevice) -> None:
    with open_phone(device.address) as opened:
        device.when_exists("data/local/tmp/mmx/run/started", device.reboot)
        with refused(DeviceLost, 6, within=10):
            opened.run(["sh", "-c", SLOW], timeout=30)
        with refused(DeviceLost, 6, within=10):  # back again, but not the phone that we prepared
            opened.run(["true"], timeout=10)
    assert (device.workspace / ".lock").exists(), "nobody was there to remove it"
    with open_phone(device.address) as opened:  # the lock of a dead guard is taken over, its files are removed
        assert not (device.workspace / "run/started").exists()
        assert opened.run(["true"], timeout=10).status == 0
    assert device.is_clean()


def test_a_phone_that_rebooted_between_two_commands(device: FakeDevice) -> None:
    with open_phone(device.address) as opened:
        device.reboot()
        time.sleep(0.3)
        with refused(DeviceLost, 6, within=10) as caught:
            opened.run(["true"], timeout=10)
        assert "restarted" in str(caught.value)
    with open_phone(device.address):
        pass
    assert device.is_clean()


@pytest.mark.parametrize("reason", ["Permission denied", "Read-only file system"])
def test_a_folder_that_is_read_only(device: FakeDevice, reason: str) -> None:
    device.install("mkdir", f"echo \"mkdir: '/data/local/tmp/mmx': {reason}\" >&2; exit 1")
    with refused(NotWritable, 6, within=10), open_phone(device.address):
        pass
    assert device.is_clean()


def test_a_file_system_that_became_read_only(device: FakeDevice, big_file: Path) -> None:
    device.read_only = True
    with open_phone(device.address) as opened, refused(NotWritable, 6, within=15):
        opened.push(big_file, "model.tflite")
    assert device.is_clean()


def test_clocks_that_jump_change_nothing(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    with open_phone(device.address) as opened:
        for moment in (0, 4_000_000_000):  # the phone's files seem to be of 1970, then of 2096
            os.utime(device.workspace / ".lock", (moment, moment))
            monkeypatch.setattr(time, "time", lambda moment=moment: moment)
            assert opened.run(["sh", "-c", "sleep 0.2; echo fine"], timeout=5).stdout == b"fine\n"
            with pytest.raises(BenchError, match="in use by"), open_phone(device.address):
                pass
        with pytest.raises(CommandTimeout):
            opened.run(["sleep", "60"], timeout=0.5)
    assert time.monotonic() - begin < 15
    assert device.is_clean()


def test_denied_files_are_unknown(device: FakeDevice) -> None:
    core = device.root / "sys/devices/system/cpu/cpu0/cpufreq"
    (core / "cpuinfo_max_freq").mkdir(parents=True)  # cannot be read, whoever asks
    (core / "related_cpus").write_text("0\n")
    for name in ("cat", "getprop", "settings"):
        device.install(name, f"echo '{name}: Permission denied' >&2; exit 1")
    device.install("dumpsys", 'echo "Can\'t find service: $1" >&2')  # the real one ends with 0 too
    with open_phone(device.address) as opened:
        what, state = read_device(opened), read_state(opened)
    assert {what.model, what.soc, what.android, what.sdk, what.gpu, what.abi} == {UNKNOWN}
    assert [(cluster.cpus, cluster.max_khz, cluster.is_capped) for cluster in what.cores] == [((0,), UNKNOWN, UNKNOWN)]
    assert {state.thermal_status, state.battery.level, state.screen, state.load, state.low_power} == {UNKNOWN}
    assert state.zones == state.thermal.temperatures == UNKNOWN
    assert device.is_clean()


def test_a_device_without_shell_v2(device: FakeDevice) -> None:
    device.shell_v2 = False
    device.reboot()  # features are told once, when it connects
    with refused(UnsupportedDevice, 6, within=10) as caught, open_phone(device.address):
        pass
    assert "Android 7" in str(caught.value)
    assert device.is_clean()


def test_a_device_in_recovery(make_device: Callable[..., FakeDevice]) -> None:
    device = make_device(mode="recovery")
    with refused(UnsupportedDevice, 6, within=10), open_phone(device.address):
        pass
    assert device.is_clean()


def test_every_limit_is_finite() -> None:
    for module in (adb_program, phone, workspace):
        limits = [value for name, value in vars(module).items() if name.endswith("_TIMEOUT_S")]
        assert limits and all(0 < limit <= 60 for limit in limits)
