"""Talk to an adb server over its socket: where it is, one request, one answer, always with a deadline.

Protocol: four hexadecimal digits of length and the request; the answer is OKAY, or FAIL and a text with its length
(AOSP, packages/modules/adb/SERVICES.TXT and OVERVIEW.TXT).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from android_bench.errors import AdbServerError, RequestError
from android_bench.explain_failure import explain_failure

_DEFAULT_PORT = 5037
# the length of a request has four hexadecimal digits
_LONGEST_REQUEST = 0xFFFF
# a server on this computer answers at once; one behind a network may not
_CONNECT_TIMEOUT_S = 10.0
_LOCAL = ("", "localhost", "127.0.0.1")


@dataclass(frozen=True)
class Server:
    """Address of an adb server."""

    host: str = "127.0.0.1"
    port: int = _DEFAULT_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether adb may start it."""
        return self.host in _LOCAL

    @property
    def options(self) -> list[str]:
        """Options of the adb program: with ``-H`` it takes the server for another computer's and starts none."""
        return ["-P", str(self.port)] if self.is_local else ["-H", self.host, "-P", str(self.port)]


def find_server(address: str | None) -> Server:
    """The server to use: ``address`` (host:port), else the variables that adb itself honours, else port 5037 here.

    Variables: ADB_SERVER_SOCKET (tcp:host:port), ANDROID_ADB_SERVER_ADDRESS, ANDROID_ADB_SERVER_PORT.

    Raises:
        RequestError: not an address.
    """
    address = address or os.environ.get("ADB_SERVER_SOCKET")
    if not address:
        host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or Server.host
        return _parse(f"{host}:{os.environ.get('ANDROID_ADB_SERVER_PORT') or _DEFAULT_PORT}")
    return _parse(address)


def _parse(address: str) -> Server:
    match = re.fullmatch(r"(?:tcp:)?(?:(?P<host>\[[^]]+\]|[^:\[\]]+):)?(?P<port>\d{1,5})", address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise RequestError(f"{address!r} is no address of an adb server: write host:port, such as lab-pi:5037")
    host = (match["host"] or Server.host).strip("[]")
    return Server(Server.host if host in _LOCAL else host, int(match["port"]))


class Wire:
    """A socket to the server. ``deadline``: time.monotonic() at which every wait ends with TimeoutError."""

    def __init__(self, server: Server, deadline: float) -> None:
        self.server = server
        self.deadline = deadline
        self._pending = bytearray()
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            self.socket = socket.create_connection((server.host, server.port), min(_CONNECT_TIMEOUT_S, left))
        except OSError as error:
            raise AdbServerError(
                f"no adb server answers at {server} ({error.strerror or error}): `adb start-server` starts one here; "
                "on another computer `adb -a nodaemon server` does"
            ) from None
        with contextlib.suppress(OSError):  # a server that hung up at once shows at the first read
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small writes, each waited for

    def close(self) -> None:
        """Hang up: the device's daemon then hangs up on the command."""
        self.socket.close()

    def _wait(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes; what came before the deadline passed is there for the next read.

        Raises:
            EOFError: the stream ended before. TimeoutError: the deadline passed.
        """
        while len(self._pending) < count:
            self._wait()
            try:
                part = self.socket.recv(count - len(self._pending))
            except ConnectionError:
                part = b""
            if not part:
                raise EOFError
            self._pending += part
        data = bytes(self._pending[:count])
        del self._pending[:count]
        return data

    def read_text(self) -> str:
        """A text with its length in front."""
        return self.read(int(self.read(4), 16)).decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Send everything; a broken connection shows at the next read."""
        self._wait()
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def request(self, message: str, serial: str = "") -> None:
        """Send one request and wait for its OKAY.

        Raises:
            BenchError: what the server refused with, typed. AdbServerError: this is no adb server.
        """
        data = message.encode()
        if len(data) > _LONGEST_REQUEST:
            raise RequestError(f"a command of {len(data)} bytes is longer than adb takes ({_LONGEST_REQUEST})")
        self.write(b"%04x" % len(data) + data)
        try:
            reply = self.read(4)
            if reply == b"OKAY":
                return
            text = self.read_text() if reply == b"FAIL" else None
        except (EOFError, ValueError):
            text = None
        if text is None:
            raise AdbServerError(
                f"what answers at {self.server} is no adb server, or ended: `adb kill-server`, then try again",
                serial=serial,
                command=message,
            )
        raise explain_failure(text, serial, message)


@contextlib.contextmanager
def connected(server: Server, timeout: float) -> Iterator[Wire]:
    """A wire for the block, closed at its end."""
    wire = Wire(server, time.monotonic() + timeout)
    try:
        yield wire
    finally:
        wire.close()


def ask(server: Server, query: str, timeout: float, serial: str = "") -> str:
    """Answer of the server itself to a ``host:`` query.

    Raises:
        AdbServerError: no answer in time. BenchError: what it refused with, typed.
    """
    try:
        with connected(server, timeout) as wire:
            wire.request(query, serial)
            return wire.read_text()
    except (TimeoutError, EOFError, ValueError):
        raise AdbServerError(
            f"the adb server at {server} did not answer within {timeout:g} s: `adb kill-server`, then try again",
            serial=serial,
            command=query,
        ) from None
