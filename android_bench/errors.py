"""Errors for people: each says what failed, on which device, and what to do next; each has an exit code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# the end of an output tells why a program died; a whole log hides it
_SHOWN_OUTPUT = 400


class BenchError(Exception):
    """Base of all expected failures; carries the evidence.

    ``serial``: the device, or empty; ``command``: what was asked; ``output``: what had been printed until then;
    ``exit_code``: status that a command of ours returns.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        serial: str = "",
        command: str | Sequence[str] = "",
        output: bytes | str = "",
    ) -> None:
        super().__init__(message)
        self.serial = serial
        self.command = command if isinstance(command, str) else shlex.join(command)
        self.output = output.decode(errors="replace") if isinstance(output, bytes) else output

    @property
    def evidence(self) -> str:
        """Command and end of the output, for a verbose report; empty when there is neither."""
        lines = [f"command: {self.command}"] if self.command else []
        if self.output.strip():
            lines.append(f"output: {self.output.strip()[-_SHOWN_OUTPUT:]}")
        return "\n".join(lines)


class RequestError(BenchError):
    """What was asked cannot be: a wrong serial, a missing file, an unknown name."""

    exit_code = 2


class SeveralDevices(RequestError):
    """More than one device is usable and none was named."""


class DeviceError(BenchError):
    """The device is not there, does not answer, or cannot do what is needed."""

    exit_code = 6


class AdbMissing(DeviceError):
    """There is no adb program, or it cannot be run."""


class AdbServerError(DeviceError):
    """The adb server does not answer, or answers what no adb server says."""


class NoDevice(DeviceError):
    """No device is usable, or the named one is not seen."""


class Unauthorized(DeviceError):
    """The phone waits for its owner to allow USB debugging."""


class Offline(DeviceError):
    """The adb server knows the device but cannot talk to it."""


class UnsupportedDevice(DeviceError):
    """The device cannot tell how a command ended (Android 6 and older), or lacks what we need."""


class DeviceLost(DeviceError):
    """The device went away in the middle: what it was doing has no result."""


class CommandTimeout(DeviceError):
    """A command was still running at its time limit."""


class Busy(DeviceError):
    """Another run holds the device's lock."""


class DeviceFull(DeviceError):
    """The device's storage takes nothing more."""


class NotWritable(DeviceError):
    """The device does not let the shell write where we must."""


class FileMissing(DeviceError):
    """A file that should be on the device is not there or cannot be read."""


class TransferFailed(DeviceError):
    """A file arrived damaged, or adb refused to copy it."""
