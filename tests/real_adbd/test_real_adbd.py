"""The daemon that phones run, not a fake: what it does when programs end, hang, or lose their host.

``make device-test`` runs these in a private network namespace: Debian's adbd asks nobody for permission.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from android_bench.adb import open_phone
from android_bench.device import read_device, read_state
from android_bench.errors import Busy, CommandTimeout, DeviceLost
from android_bench.job import Job, Tensor
from android_bench.phone import Phone
from android_bench.runners.ncnn import NcnnRunner
from android_bench.runners.runner import Launch, Output
from android_bench.unknown import UNKNOWN
from android_bench.workspace import BASE

pytestmark = pytest.mark.device

HERE = Path(__file__).resolve().parent
PORT = 6010
SERIAL = f"127.0.0.1:{PORT}"
SLOW = 'trap "" TERM; echo begun; : > started; sleep 60 & sleep 60; wait'

RUN = """
import sys
from android_bench.adb import open_phone
with open_phone({serial!r}) as phone:
    phone.run(["sh", "-c", ": > started; sleep 60 & sleep 60"], timeout=60)
"""


class Adbd:
    """The phone: its files, and its daemon that can be stopped and killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / BASE[1:]
        self.start()

    def start(self) -> None:
        begun = subprocess.run(
            ["bash", HERE / "start_adbd.sh", self.root, str(PORT)], stdout=subprocess.PIPE, text=True, check=True
        )
        self.pid = int(begun.stdout)
        for _ in range(100):
            adb("connect", SERIAL)
            if f"{SERIAL}\tdevice" in adb("devices"):
                return
            time.sleep(0.1)
        raise AssertionError("adbd does not answer")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        adb("disconnect", SERIAL)

    def programs(self) -> list[str]:
        """Command lines of the phone's user, adbd itself apart."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if folder.stat().st_uid == 2000 and int(folder.name) != self.pid:
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return [line for line in found if line]

    def is_clean(self, within: float = 5.0) -> bool:
        deadline = time.monotonic() + within
        while self.programs() or self.folder.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def wait_for(self, name: str) -> None:
        for _ in range(500):
            if (self.folder / name).exists():
                return
            time.sleep(0.02)
        raise AssertionError(f"no file {name}")


def adb(*arguments: str) -> str:
    return subprocess.run(["adb", *arguments], capture_output=True, text=True, timeout=30, check=False).stdout


@pytest.fixture(scope="module")
def adbd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adbd]:
    root = os.environ.get("MMEXPORT_REAL_ADBD")
    if not root:
        pytest.skip("needs the real adbd in a private namespace: make device-test")
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))  # adb makes keys there
    adb("start-server")
    phone = Adbd(Path(root))
    yield phone
    adb("kill-server")
    phone.signal(signal.SIGKILL)


@pytest.fixture
def phone(adbd: Adbd) -> Iterator[Phone]:
    with open_phone(SERIAL) as opened:
        yield opened
    assert adbd.is_clean()


def test_status_output_and_user(phone: Phone) -> None:
    done = phone.run(["sh", "-c", "echo out; echo err >&2; id -u; exit 7"], timeout=10)
    assert (done.status, done.stdout, done.stderr) == (7, b"out\n2000\n", b"err\n")
    assert phone.run(["sh", "-c", "kill -SEGV $$"], timeout=10).status == 139
    assert phone.run(["no-such-program"], timeout=10).status == 127
    assert phone.run(["cat"], timeout=10).stdout == b""
    much = phone.run(["seq", "200000"], timeout=30)
    assert much.stdout == "".join(f"{n}\n" for n in range(1, 200001)).encode()


def test_affinity_is_a_prefix(phone: Phone) -> None:
    done = phone.run(["env", "A=b c", "taskset", "1", "sh", "-c", 'echo "$A"; cat /proc/self/status'], timeout=10)
    assert done.stdout.startswith(b"b c\n") and b"Cpus_allowed_list:\t0\n" in done.stdout


@pytest.mark.parametrize("name", ["model.tflite", "a b;reboot.tflite", "$(id) 'x' \"y\" größe.tflite"])
def test_files_go_and_come_back(phone: Phone, tmp_path: Path, name: str) -> None:
    local = tmp_path / "model"
    local.write_bytes(os.urandom(2_000_000))
    path = phone.push(local, name)
    told = phone.run(["sha256sum", path], timeout=20).stdout.decode().lstrip("\\")[:64]
    assert told == hashlib.sha256(local.read_bytes()).hexdigest()
    phone.pull(path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()


def test_a_program_that_does_not_end_is_killed(phone: Phone, adbd: Adbd) -> None:
    with pytest.raises(CommandTimeout) as caught:
        phone.run(["sh", "-c", SLOW], timeout=1)
    assert caught.value.output == "begun\n" and not hasattr(caught.value, "__notes__")
    assert not [line for line in adbd.programs() if "sleep 60" in line]


def test_one_run_at_a_time(phone: Phone) -> None:
    with pytest.raises(Busy, match="in use by"), open_phone(SERIAL):
        pass


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing(adbd: Adbd, end: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN.format(serial=SERIAL)], stderr=subprocess.DEVNULL) as process:
        adbd.wait_for("run/started")
        process.send_signal(end)
    assert adbd.is_clean()


def test_a_daemon_that_hangs(adbd: Adbd) -> None:
    with pytest.raises(CommandTimeout), open_phone(SERIAL) as opened:
        adbd.signal(signal.SIGSTOP)
        opened.run(["true"], timeout=1)
    adbd.signal(signal.SIGCONT)
    assert adbd.is_clean()


def test_a_daemon_that_dies_in_the_middle(adbd: Adbd) -> None:
    with pytest.raises(DeviceLost), open_phone(SERIAL) as opened:
        adbd.kill()
        opened.run(["true"], timeout=10)
    adbd.start()
    with open_phone(SERIAL) as opened:  # whatever its guard could do by then
        assert opened.run(["true"], timeout=10).status == 0
    assert adbd.is_clean()


def test_what_this_phone_does_not_tell_is_unknown(phone: Phone) -> None:
    found, state = read_device(phone), read_state(phone)
    assert {found.model, found.soc, found.gpu, found.sdk, state.thermal_status, state.screen} == {UNKNOWN}
    assert found.cores == () and isinstance(state.load, float)


def test_a_program_for_phones_runs_and_is_read(phone: Phone, tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    qemu = Path(f"{os.environ['MMEXPORT_REAL_ADBD']}.apt/qemu/usr/bin/qemu-aarch64")
    if compiler is None:
        pytest.skip("needs aarch64-linux-gnu-gcc (Debian packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross)")
    if not qemu.is_file():
        pytest.skip("needs Debian's package qemu-user, which could not be had")
    _register(qemu)
    program = tmp_path / "benchncnn"
    subprocess.run([compiler, "-static", "-O1", "-o", program, HERE / "stub_runner.c"], check=True)
    pushed = phone.push(program, "benchncnn")
    done = phone.run([pushed, "5", "1", "2", "-1", "0", "param=net.param", "shape=[8,8,3]"], timeout=60)
    image, alpha = Tensor("image", (1, 3, 8, 8), "NCHW"), Tensor("alpha", (1, 1, 8, 8), "NCHW")
    job = Job("net", "net", "ncnn", "cpu", "fp32", (tmp_path / "net.param",), "0" * 64, (image,), alpha)
    launch = Launch((pushed,), ("net.param",), "0", threads=1, runs=5)
    measured = NcnnRunner().read(job, launch, Output(done.status, done.stdout.decode(), done.stderr.decode()))
    assert (measured.runs, measured.name) == (5, "net.param") and 0 < measured.min_ms <= measured.mean_ms


def _register(qemu: Path) -> None:
    """Let this namespace execute arm64 files; F keeps the interpreter open, so it works in a chroot without it."""
    entry = Path("/proc/sys/fs/binfmt_misc/mmexport-aarch64")
    if entry.exists():
        return
    magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    try:
        entry.with_name("register").write_text(f":{entry.name}:M::{magic}:{mask}:{qemu}:F")
    except OSError as error:
        pytest.skip(f"needs a binfmt_misc of its own (Linux 6.7 or newer): {error.strerror}")
