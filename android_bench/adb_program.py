"""The user's adb program: server, connect, push, pull. Its exit status and its words are never trusted alone.

adb 29 and 34 end with status 0 when connect fails, and adb 34 prints "1 file pushed" before it says that the push
failed: the caller looks at the device afterwards.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from android_bench.adb_server import Server, ask
from android_bench.choose_device import SeenDevice, parse_devices
from android_bench.errors import AdbMissing, AdbServerError, CommandTimeout
from android_bench.machine import Completed

# a starting server looks through USB first
_START_TIMEOUT_S = 20.0
_ASK_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 15.0
# a device that was just connected passes through "offline" or "authorizing"
_SETTLE_S = 3.0
_SETTLE_STEP_S = 0.1
# a copy may take this long, and a second more for each half megabyte: USB 2 and wireless phones do 2 MB/s and more
_COPY_TIMEOUT_S = 30.0
_SLOWEST_COPY = 500_000


@dataclass(frozen=True)
class AdbProgram:
    """An adb program and the server that it talks to. ``path``: a name on PATH or a file."""

    path: str
    server: Server

    def start_server(self) -> None:
        """Start the server of this computer if none answers; another computer's must be running.

        Raises:
            AdbMissing, AdbServerError: with what to do.
        """
        try:
            ask(self.server, "host:version", _ASK_TIMEOUT_S)
            return
        except AdbServerError:
            if not self.server.is_local:
                raise
        done = self._run(["start-server"], _START_TIMEOUT_S)
        if done.status != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise AdbServerError(f"adb cannot start its server at {self.server}: {said}", command="adb start-server")
        ask(self.server, "host:version", _ASK_TIMEOUT_S)

    def devices(self) -> list[SeenDevice]:
        """What the server sees now."""
        return parse_devices(ask(self.server, "host:devices-l", _ASK_TIMEOUT_S))

    def reach(self, serial: str) -> list[SeenDevice]:
        """Connect a network device (``serial`` is host:port) that is not seen or offline; the devices afterwards."""
        devices = self.devices()
        state = _state(devices, serial)
        if state not in (None, "offline") or not re.fullmatch(r"\S+:\d+", serial):
            return devices
        if state == "offline":  # connect would say "already connected" and do nothing
            self._run(["disconnect", serial], _CONNECT_TIMEOUT_S)
        self._run(["connect", serial], _CONNECT_TIMEOUT_S)
        deadline = time.monotonic() + _SETTLE_S
        while True:
            devices = self.devices()
            if _state(devices, serial) in ("device", "unauthorized", None) or time.monotonic() > deadline:
                return devices
            time.sleep(_SETTLE_STEP_S)

    def push(self, serial: str, local: Path, remote: str) -> Completed:
        """``adb push``; whether the file arrived is for the caller to look at."""
        limit = _COPY_TIMEOUT_S + local.stat().st_size / _SLOWEST_COPY
        return self._run(["-s", serial, "push", str(local.absolute()), remote], limit)

    def pull(self, serial: str, remote: str, local: Path, size: int) -> Completed:
        """``adb pull`` of a file of ``size`` bytes; whether it arrived whole is for the caller to look at."""
        return self._run(["-s", serial, "pull", remote, str(local.absolute())], _COPY_TIMEOUT_S + size / _SLOWEST_COPY)

    def _run(self, arguments: Sequence[str], timeout: float) -> Completed:
        command = [self.path, *self.server.options, *arguments]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        except FileNotFoundError:
            raise AdbMissing(
                f"there is no program {self.path}: install Debian package adb (or Android's platform-tools)"
            ) from None
        except OSError as error:
            raise AdbMissing(f"{self.path} cannot be run ({error.strerror}): install Debian package adb") from None
        except subprocess.TimeoutExpired as error:
            raise CommandTimeout(
                f"adb had not ended after {timeout:g} s: `adb kill-server`, plug the phone in again, then try again",
                command=command,
                output=(error.stdout or b"") + (error.stderr or b""),
            ) from None
        return Completed(done.returncode & 0xFF, done.stdout, done.stderr)


def _state(devices: Sequence[SeenDevice], serial: str) -> str | None:
    return next((device.state for device in devices if device.serial == serial), None)
