"""Run a command on an Android device and *know* how it ended: the shell_v2 protocol, through a running adb server.

``adb shell`` ends with status 0 when the device is lost in the middle (seen with adb 29 and 34). In shell_v2 every
command ends with an exit packet, so a stream that ends without one is a lost device and nothing else.

Written here instead of taken from adbutils 2.12.0, whose ``shell2(v2=True)`` reads the same packets: its timeout
counts for each packet and not for the command, a stream cut short raises without what was printed, a device without
the feature is answered by a mere log line and the old protocol, there is no stdin, and four more packages (requests,
Pillow ...) would come along. What is left to write are the lines below.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Iterator

from android_bench.adb_server import Server, Wire, ask
from android_bench.errors import CommandTimeout, DeviceLost, UnsupportedDevice
from android_bench.machine import Completed

_STDIN, _STDOUT, _STDERR, _EXIT = 0, 1, 2, 3  # packet ids
_FEATURES_TIMEOUT_S = 10.0


def require_shell_v2(server: Server, serial: str) -> None:
    """Refuse a device that cannot tell how a command ended.

    Raises:
        UnsupportedDevice: Android 6 and older. BenchError: the device is not usable.
    """
    features = ask(server, f"host-serial:{serial}:features", _FEATURES_TIMEOUT_S, serial).split(",")
    if "shell_v2" not in features:
        raise UnsupportedDevice(
            f"device {serial} cannot tell how a command ended (adb feature shell_v2 is missing): Android 7 or newer "
            "is needed",
            serial=serial,
            output=",".join(features),
        )


class ShellStream:
    """A command running on the device; reading its packets, writing its standard input."""

    def __init__(self, server: Server, serial: str, command: str, timeout: float) -> None:
        """Start ``command`` (a line for the device's shell); raises BenchError where that is not possible."""
        self.serial, self.command, self.timeout = serial, command, timeout
        self.output = {_STDOUT: bytearray(), _STDERR: bytearray()}
        try:
            self.wire = Wire(server, time.monotonic() + timeout)
            try:
                self.wire.request(f"host:transport:{serial}", serial)
                self.wire.request(f"shell,v2,raw:{command}", serial)
            except BaseException:
                self.wire.close()
                raise
        except TimeoutError:
            raise self._late() from None

    def close(self) -> None:
        """Hang up; the device's daemon sends SIGHUP to the command's shell."""
        self.wire.close()

    def within(self, seconds: float) -> None:
        """From now on every wait ends after ``seconds``."""
        self.timeout = seconds
        self.wire.deadline = time.monotonic() + seconds

    def write(self, data: bytes) -> None:
        """Send to the command's standard input."""
        self.wire.write(struct.pack("<BI", _STDIN, len(data)) + data)

    def has_news(self) -> bool:
        """Whether something came, be it the end of the stream."""
        return bool(select.select([self.wire.socket], [], [], 0)[0])

    def packets(self) -> Iterator[tuple[int, bytes]]:
        """Output packets as they come, kept in ``output`` too; the exit packet is the last.

        Raises:
            DeviceLost: the stream ended without an exit packet. CommandTimeout: none came in time.
        """
        while True:
            try:
                ident, length = struct.unpack("<BI", self.wire.read(5))
                data = self.wire.read(length)
            except TimeoutError:
                raise self._late() from None
            except EOFError:
                raise DeviceLost(
                    f"device {self.serial} was lost in the middle of a command: check cable and power, then run again",
                    serial=self.serial,
                    command=self.command,
                    output=self._printed(),
                ) from None
            if ident in self.output:
                self.output[ident] += data
            yield ident, data
            if ident == _EXIT:
                return

    def lines(self) -> Iterator[str]:
        """Lines of standard output as they come; ends with the command."""
        pending = b""
        for ident, data in self.packets():
            if ident == _STDOUT:
                *whole, pending = (pending + data).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)

    def finish(self) -> Completed:
        """Wait for the end; errors as of ``packets``."""
        status = b""
        for _, status in self.packets():  # noqa: B007  the last packet is the exit packet
            pass
        return Completed(status[0], bytes(self.output[_STDOUT]), bytes(self.output[_STDERR]))

    def _printed(self) -> bytes:
        return bytes(self.output[_STDOUT] + self.output[_STDERR])

    def _late(self) -> CommandTimeout:
        return CommandTimeout(
            f"a command on device {self.serial} had not ended after {self.timeout:g} s: the phone may hang or be very "
            "slow; look at it, then run again",
            serial=self.serial,
            command=self.command,
            output=self._printed(),
        )


def run_shell(server: Server, serial: str, command: str, timeout: float) -> Completed:
    """Run one line of the device's shell to its end.

    Raises:
        CommandTimeout: not ended after ``timeout`` seconds; what it printed is in the error. DeviceLost, BenchError.
    """
    stream = ShellStream(server, serial, command, timeout)
    try:
        return stream.finish()
    finally:
        stream.close()
