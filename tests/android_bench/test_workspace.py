"""One run per phone at a time; whatever ends it, the phone cleans itself up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore

import pytest
from fake_device import FakeDevice

from android_bench.adb import open_phone
from android_bench.errors import Busy

SHELLS = [path for name in ("dash", "mksh", "bash") if (path := shutil.which(name))]
ROOT = Path(__file__).resolve().parents[2]

# a run of ours in a process of its own: a program that does not end, and a setting that must be restored
# a job in a shell's background starts with SIGINT ignored, and so would its children
PROGRAM = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from android_bench.adb import open_phone
from android_bench.device import fixed_performance
with open_phone({serial!r}) as phone, fixed_performance(phone) as accepted:
    assert accepted
    print("open", flush=True)
    phone.run(["sh", "-c", ": > started; sleep 60 & sleep 60"], timeout=60)
"""


def start(device: FakeDevice) -> subprocess.Popen[str]:
    device.install("cmd", 'echo "$*" >> "$ROOT/asked"')
    code = PROGRAM.format(root=str(ROOT), serial=device.address)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=device.root
    )
    for _ in range(500):
        if (device.workspace / "run/started").exists():
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing(
    make_device: Callable[..., FakeDevice], end: signal.Signals, shell: str
) -> None:
    device = make_device(shell=shell)
    process = start(device)
    process.send_signal(end)
    process.communicate(timeout=20)
    assert process.returncode == -end
    assert device.is_clean()
    asked = (device.root / "asked").read_text().splitlines()
    assert asked[0].endswith("set-fixed-performance-mode-enabled true") and asked[-1].endswith("enabled false")


def test_a_phone_in_use_is_refused_and_says_by_whom(device: FakeDevice) -> None:
    with open_phone(device.address) as first:
        with pytest.raises(Busy) as caught, open_phone(device.address):
            pass
        assert caught.value.exit_code == 6
        assert f"process {os.getpid()}" in str(caught.value) and "rm -r /data/local/tmp/mmx" in str(caught.value)
        assert first.run(["echo", "undisturbed"], timeout=10).stdout == b"undisturbed\n"
    with open_phone(device.address):
        pass
    assert device.is_clean()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("owner", ["", "1 0123456789abcdef somebody", "999999999 0123456789abcdef somebody"])
def test_the_lock_of_a_dead_guard_is_taken_over(make_device: Callable[..., FakeDevice], owner: str, shell: str) -> None:
    device = make_device(shell=shell)  # process 1 lives, but is not that guard
    (device.workspace / ".lock").mkdir(parents=True)
    if owner:
        (device.workspace / ".lock/owner").write_text(owner + "\n")
    (device.workspace / "run/.running").mkdir(parents=True)
    (device.workspace / "run/left over.tflite").write_text("of another model")
    (device.workspace / "run/.undo-screen").write_text(f"touch {device.root}/restored\n")
    with open_phone(device.address):
        assert not (device.workspace / "run/left over.tflite").exists()
        assert (device.root / "restored").exists()
    assert device.is_clean()


def test_what_a_dead_guard_left_running_is_killed_and_nothing_else(device: FakeDevice) -> None:
    folder = device.workspace / "run"
    ours = device.start("cd /data/local/tmp/mmx 2>/dev/null; sleep 61; : /data/local/tmp/mmx/run")
    orphans = device.start("sleep 62 & exit")  # its shell is gone, the group lives on
    foreign = device.start("sleep 63; : a process id that was given to somebody else")
    orphans.wait()
    (folder / ".running").mkdir(parents=True)
    for process in (ours, orphans, foreign):
        (folder / f".running/{process.pid}").touch()
    with open_phone(device.address):
        running = " ".join(device.processes())
        assert "sleep 61" not in running and "sleep 62" not in running and "sleep 63" in running
    foreign.kill()
    device.kill_all()
    assert device.is_clean()


def test_of_many_that_want_a_phone_with_a_stale_lock_one_gets_it(device: FakeDevice) -> None:
    (device.workspace / ".lock").mkdir(parents=True)
    (device.workspace / ".lock/owner").write_text("999999999 0123456789abcdef somebody\n")

    refused = Semaphore(0)

    def want(_: int) -> bool:
        try:
            with open_phone(device.address):
                return all(refused.acquire(timeout=30) for _ in range(5))  # until all others were refused
        except Busy:
            refused.release()
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(want, range(6))) == [False] * 5 + [True]
    assert device.is_clean()


def test_files_of_others_beside_our_folder_stay(device: FakeDevice) -> None:
    other = device.root / "data/local/tmp/perfetto.trace"
    other.write_text("not ours")
    (device.workspace).mkdir()
    (device.workspace / "notes").write_text("somebody put this here")
    with open_phone(device.address):
        pass
    assert other.exists() and [path.name for path in device.workspace.iterdir()] == ["notes"]
