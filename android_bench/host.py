"""This computer as a machine to measure on: a scratch folder, child processes, and what Linux tells about itself."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from android_bench.device import Device, DeviceState
from android_bench.errors import CommandTimeout, FileMissing, RequestError
from android_bench.machine import Completed
from android_bench.read_cores import CORES_SCRIPT, Cluster, affinity_mask, read_cores
from android_bench.unknown import UNKNOWN

SERIAL = "host"
PROGRAM = (sys.executable, "-P", "-m", "android_bench.host_worker")
_ROOT = Path(__file__).resolve().parent.parent


class Host:
    """A Machine: this computer. Made by ``open_host``."""

    serial = SERIAL

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """Run a program in ``folder``; see ``Machine.run``. Its children end with it.

        Raises:
            CommandTimeout: not ended in time. RequestError: there is no such program.
        """
        search = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": search},
                start_new_session=True,
            )
        except OSError as error:
            raise RequestError(f"cannot run {argv[0]}: {error.strerror}", serial=SERIAL, command=argv) from error
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise CommandTimeout(
                f"{argv[0]} was still running after {timeout:g} s",
                serial=SERIAL,
                command=argv,
                output=error.stdout or b"",
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        status = process.returncode
        return Completed(128 - status if status < 0 else status, stdout, stderr)

    def push(self, local: Path, name: str) -> str:
        """Copy a file into ``folder``; see ``Machine.push``."""
        target = Path(self.folder) / name
        shutil.copyfile(local, target)
        return str(target)

    def pull(self, path: str, local: Path) -> None:
        """Copy a file to ``local``; see ``Machine.pull``."""
        try:
            shutil.copyfile(path, local)
        except OSError as error:
            raise FileMissing(f"{path} cannot be read: {error.strerror}", serial=SERIAL) from error


@contextlib.contextmanager
def open_host() -> Iterator[Host]:
    """This computer for the block; afterwards the scratch folder is gone."""
    with tempfile.TemporaryDirectory(prefix="mmexport-bench-") as folder:
        yield Host(Path(folder))


def read_host(host: Host) -> Device:
    """What this computer is, in a phone's terms; what it does not tell is unknown."""
    cores = _clusters(host)
    return Device(
        serial=SERIAL,
        model=platform.node() or UNKNOWN,
        soc=_processor() or platform.processor() or UNKNOWN,
        abi=platform.machine() or UNKNOWN,
        cores=cores,
    )


def read_host_state(host: Host) -> DeviceState:
    """How this computer is now: load and clocks."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else UNKNOWN
    return DeviceState(load=load, cores=_clusters(host))


def host_mask(threads: int) -> str:
    """The last cores that we may use, one a thread; empty where the system has no affinity.

    Raises:
        RequestError: fewer cores than threads.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ""
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise RequestError(f"--threads {threads}: this computer gives us {len(allowed)} cores")
    return affinity_mask(allowed[-threads:])


def _clusters(host: Host) -> tuple[Cluster, ...]:
    if sys.platform != "linux":
        return ()
    return read_cores(host.run(["sh", "-c", CORES_SCRIPT], 20).stdout.decode(errors="replace"))


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""
