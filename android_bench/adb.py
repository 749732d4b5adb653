"""Phones behind adb: list them, and open one for a run of ours, locked and cleaned up in every case.

with open_phone(None) as phone:
    runner = phone.push(Path("benchmark_model"), "benchmark_model")
    done = phone.run([runner, "--help"], timeout=10)
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from android_bench.adb_program import AdbProgram
from android_bench.adb_server import find_server
from android_bench.choose_device import SeenDevice, choose_device
from android_bench.phone import Phone
from android_bench.shell_v2 import require_shell_v2
from android_bench.workspace import Workspace

_log = logging.getLogger(__name__)


def list_devices(adb: str = "adb", server: str | None = None) -> list[SeenDevice]:
    """Every device that adb sees, in whatever state; starts the server of this computer if need be.

    Args:
        adb: the program, a name on PATH or a file.
        server: host:port of the adb server; without it what adb's own environment variables say.

    Raises:
        AdbMissing, AdbServerError, RequestError: with what to do.
    """
    program = AdbProgram(adb, find_server(server))
    program.start_server()
    return program.devices()


def find_phone(serial: str | None, adb: str = "adb", server: str | None = None) -> str:
    """The serial of the phone that ``open_phone`` would open, which is left alone; raises what it raises."""
    return _choose(AdbProgram(adb, find_server(server)), serial)


@contextlib.contextmanager
def open_phone(serial: str | None, adb: str = "adb", server: str | None = None) -> Iterator[Phone]:
    """A phone for the block; afterwards our programs on it are killed, settings restored, files and lock removed.

    Args:
        serial: which one; without it ANDROID_SERIAL, else the only usable one. A network device (host:port) that is
            not seen yet is connected.
        adb: the program, a name on PATH or a file.
        server: host:port of the adb server; without it what adb's own environment variables say.

    Raises:
        SeveralDevices, NoDevice, Unauthorized, Offline, UnsupportedDevice, Busy, NotWritable, DeviceFull, AdbMissing,
        AdbServerError: each with what to do; nothing of ours is on the phone then.
    """
    program = AdbProgram(adb, find_server(server))
    chosen = _choose(program, serial)
    require_shell_v2(program.server, chosen)
    workspace = Workspace(program.server, chosen)
    try:
        yield Phone(chosen, program, workspace)
    finally:
        if not workspace.release():
            _log.warning(
                "device %s did not confirm that it was cleaned up; its guard does it when the connection ends",
                chosen,
            )


def _choose(program: AdbProgram, serial: str | None) -> str:
    program.start_server()
    wanted = serial or os.environ.get("ANDROID_SERIAL") or None
    return choose_device(program.reach(wanted) if wanted else program.devices(), wanted).serial
