"""A small adb *device* over TCP loopback, for tests with the real adb client; it can misbehave on request.

It speaks CNXN AUTH OPEN OKAY WRTE CLSE with the services shell (v1 and v2) and sync. Commands run really, by this
computer's ``sh`` in sessions of their own: the paths of a phone in them (``/data/local/tmp``, ``/sys/devices`` ...)
are replaced by paths below ``root``, and programs in ``root/system/bin`` come first. As adbd does, it sends SIGHUP to
a session's shell, and to nothing else, when the host hangs up.

    with FakeDevice(tmp_path) as device:
        subprocess.run(["adb", "connect", device.address])
        device.lose()      # cable pulled     device.plug_in()   # and back
        device.hang()      # stops answering  device.resume()
        device.reboot()    # every process dies, files stay

It runs host commands, so it listens on 127.0.0.1 only. Ports 5555..5585 are never used: an adb server adopts those as
emulators by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time
from pathlib import Path

from fake_sync import SyncService

COMMANDS = {n: struct.unpack("<I", n.encode())[0] for n in ("CNXN", "AUTH", "OPEN", "OKAY", "WRTE", "CLSE")}
NAMES = {v: k for k, v in COMMANDS.items()}
VERSION = 0x01000001  # from this version on, payload checksums are not used
MAX_PAYLOAD = 1024 * 1024
AUTH_TOKEN, AUTH_SIGNATURE = 1, 2
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = 0, 1, 2, 3, 4
PHONE_PATHS = re.compile(r"/(?:data/local/tmp|sys/(?:devices|class)|proc/cpuinfo|proc/loadavg)\b")


class Stream:
    """One adb stream, seen from the device. Each WRTE must be answered by OKAY before the next is sent."""

    def __init__(self, connection, local_id, remote_id):
        self.connection, self.local_id, self.remote_id = connection, local_id, remote_id
        self.received = bytearray()
        self.changed = threading.Condition()
        self.writing = threading.Lock()  # stdout and stderr are pumped by two threads
        self.acknowledged, self.closed = True, False

    def write(self, data):
        with self.writing:
            step = self.connection.max_payload
            for start in range(0, len(data), step):
                with self.changed:
                    self.changed.wait_for(lambda: self.acknowledged or self.closed)
                    if self.closed:
                        raise EOFError
                    self.acknowledged = False
                self.connection.send("WRTE", self.local_id, self.remote_id, data[start : start + step])

    def read(self, count):
        with self.changed:
            self.changed.wait_for(lambda: len(self.received) >= count or self.closed)
            if len(self.received) < count:
                raise EOFError
            out = bytes(self.received[:count])
            del self.received[:count]
            return out

    def close(self):
        with self.changed:
            self.changed.wait_for(lambda: self.acknowledged or self.closed)
            if self.closed:
                return
            self.closed = True
        self.connection.send("CLSE", self.local_id, self.remote_id)

    def on(self, name, data):
        with self.changed:
            if name == "OKAY":
                self.acknowledged = True
            elif name == "WRTE":
                self.received += data
            else:
                self.closed = True
            self.changed.notify_all()


class Connection(socketserver.BaseRequestHandler):
    """One host connection: message loop, flow control, services."""

    def setup(self):
        self.device = self.server.device
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as adbd does; else 40 ms an answer
        self.write_lock = threading.Lock()
        self.streams = {}
        self.max_payload = 4096
        self.bytes_in = self.bytes_out = 0
        self.device.connections.append(self)

    def lose(self):
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)

    def send(self, name, arg0, arg1, data=b""):
        command = COMMANDS[name]
        head = struct.pack("<6I", command, arg0, arg1, len(data), 0, command ^ 0xFFFFFFFF)
        self.device.awake.wait()
        with self.write_lock, contextlib.suppress(OSError):
            self.bytes_out += len(data)
            limit = self.device.drop_after_sent
            if limit is not None and self.bytes_out > limit:  # the rest of this packet never leaves
                self.device.drop_after_sent = None
                self.request.sendall(head + data[: max(1, len(data) - (self.bytes_out - limit))])
                self.device.lose()
                return
            self.request.sendall(head + data)

    def receive(self, count):
        out = bytearray()
        while len(out) < count:
            data = self.request.recv(min(1 << 18, count - len(out)))
            self.device.awake.wait()
            if not data:
                raise EOFError
            out += data
            self.bytes_in += len(data)
            limit = self.device.drop_after_received
            if limit is not None and self.bytes_in > limit:
                self.device.drop_after_received = None
                self.device.lose()
                raise EOFError
        return bytes(out)

    def banner(self):
        features = ["cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "fixed_push_symlink_timestamp"]
        if self.device.shell_v2:
            features.append("shell_v2")
        state = "recovery" if self.device.mode == "recovery" else "device"
        model = self.device.model
        return (
            f"{state}::ro.product.name={model};ro.product.model={model};ro.product.device=fake;"
            f"features={','.join(features)}"
        ).encode()

    def handle(self):
        if self.device.unplugged:
            return
        with contextlib.suppress(EOFError, OSError):
            while self.one_message():
                pass
        for stream in list(self.streams.values()):
            stream.on("CLSE", b"")

    def one_message(self):
        command, arg0, arg1, length, _, magic = struct.unpack("<6I", self.receive(24))
        if command ^ 0xFFFFFFFF != magic:
            return False
        data = self.receive(length)
        name = NAMES.get(command)
        if name == "CNXN":
            self.max_payload = min(arg1, MAX_PAYLOAD)
            if self.device.mode == "unauthorized":
                self.send("AUTH", AUTH_TOKEN, 0, os.urandom(20))
            elif self.device.mode != "silent":
                self.send("CNXN", VERSION, MAX_PAYLOAD, self.banner())
        elif name == "AUTH":
            if arg0 == AUTH_SIGNATURE:  # reject this key, ask for the next one
                self.send("AUTH", AUTH_TOKEN, 0, os.urandom(20))
        elif name == "OPEN":
            stream = Stream(self, len(self.streams) + 1, arg0)
            self.streams[stream.local_id] = stream
            service = data.rstrip(b"\0").decode()
            threading.Thread(target=self.serve, args=(stream, service), daemon=True).start()
        elif name in ("OKAY", "WRTE", "CLSE") and arg1 in self.streams:
            stream = self.streams[arg1]
            stream.on(name, data)
            if name == "WRTE":
                self.send("OKAY", stream.local_id, stream.remote_id)
        return True

    def serve(self, stream, service):
        kind, _, command = service.partition(":")
        kind, *options = kind.split(",")
        if kind not in ("shell", "exec", "sync") or ("v2" in options and not self.device.shell_v2):
            self.send("CLSE", 0, stream.remote_id)
            return
        self.send("OKAY", stream.local_id, stream.remote_id)
        with contextlib.suppress(EOFError):
            if kind == "sync":
                SyncService(stream, self.device.root, self.device.space, self.device.read_only).serve()
            else:
                self.shell(stream, command, "v2" in options)
        stream.close()

    def shell(self, stream, command, v2):
        def packet(ident, data):
            stream.write(struct.pack("<BI", ident, len(data)) + data if v2 else data)

        process = self.device.start(command)

        def hang_up():
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGHUP)

        def pump(pipe, ident):
            with contextlib.suppress(EOFError):
                while data := os.read(pipe.fileno(), 32768):
                    packet(ident, data)

        def feed():
            try:
                while True:
                    ident, length = struct.unpack("<BI", stream.read(5)) if v2 else (STDIN, 1)
                    data = stream.read(length)
                    if ident == STDIN:
                        process.stdin.write(data)
                        process.stdin.flush()
                    elif ident == CLOSE_STDIN:
                        process.stdin.close()
            except (EOFError, OSError, ValueError):
                if stream.closed and process.poll() is None:
                    hang_up()

        pumps = [
            threading.Thread(target=pump, args=(process.stdout, STDOUT), daemon=True),
            threading.Thread(target=pump, args=(process.stderr, STDERR), daemon=True),
        ]
        threading.Thread(target=feed, daemon=True).start()
        for thread in pumps:
            thread.start()
        for thread in pumps:
            thread.join()
        status = process.wait()
        if v2:
            packet(EXIT, bytes([status & 255 if status >= 0 else 128 - status]))


class Server(socketserver.ThreadingTCPServer):
    """Listens for hosts."""

    allow_reuse_address = daemon_threads = True
    device: FakeDevice

    def handle_error(self, request, client_address):
        """A host that goes away is what these tests are about."""


class FakeDevice:
    """The phone: a context manager around its server. Faults are attributes, set before or during a test."""

    def __init__(self, root: Path, mode: str = "device", model: str = "FAKE", shell: str = "/bin/sh") -> None:
        self.root, self.mode, self.model, self.shell = Path(root), mode, model, shell
        self.shell_v2 = True
        self.drop_after_sent: int | None = None
        self.drop_after_received: int | None = None
        self.space: int | None = None
        self.read_only = self.unplugged = False
        self.awake = threading.Event()
        self.awake.set()
        self.connections: list[Connection] = []
        self.sessions: list[int] = []
        for folder in ("data/local/tmp", "system/bin"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        while True:
            self.server = Server(("127.0.0.1", 0), Connection)
            port = self.server.server_address[1]
            if not 5555 <= port <= 5585:
                break
            self.server.server_close()
        self.server.device = self
        self.address = f"127.0.0.1:{port}"

    @property
    def workspace(self) -> Path:
        return self.root / "data/local/tmp/mmx"

    def __enter__(self) -> FakeDevice:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.resume()
        self.lose()
        self.server.shutdown()
        self.server.server_close()
        self.kill_all()

    def start(self, command: str) -> subprocess.Popen:
        """Run a line of shell as a phone would, in a session of its own."""
        line = PHONE_PATHS.sub(lambda found: f"{self.root}{found.group()}", command)
        process = subprocess.Popen(
            [self.shell, "-c", line],
            cwd=self.root,
            env={"PATH": f"{self.root}/system/bin:/usr/bin:/bin", "ROOT": str(self.root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.sessions.append(process.pid)
        return process

    def install(self, name: str, script: str) -> Path:
        """A program of the phone, written in shell; the variable ROOT is the phone's root."""
        path = self.root / "system/bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def processes(self) -> list[str]:
        """Command lines of everything that runs on the phone."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) in self.sessions and state not in "ZX":
                    found.append(stat.with_name("cmdline").read_text().replace("\0", " "))
        return found

    def is_clean(self, within: float = 10.0) -> bool:
        """Whether, after ``within`` seconds at most, nothing of ours runs there and nothing lies there."""
        deadline = time.monotonic() + within
        while self.processes() or self.workspace.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def when_exists(self, path: str, action) -> None:
        """Do something as soon as a file is there, below ``root``."""

        def watch() -> None:
            for _ in range(3000):
                if (self.root / path).exists():
                    action()
                    return
                time.sleep(0.01)

        threading.Thread(target=watch, daemon=True).start()

    def lose(self) -> None:
        self.unplugged = True
        while self.connections:
            self.connections.pop().lose()

    def lose_after(self, *, received: int | None = None, sent: int | None = None) -> None:
        """Be lost when so many bytes more have come, or have left."""
        connection = self.connections[-1]
        self.drop_after_received = None if received is None else connection.bytes_in + received
        self.drop_after_sent = None if sent is None else connection.bytes_out + sent

    def plug_in(self) -> None:
        self.unplugged = False

    def hang(self) -> None:
        self.awake.clear()

    def resume(self) -> None:
        self.awake.set()

    def kill_all(self) -> None:
        for session in self.sessions:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGKILL)

    def reboot(self) -> None:
        self.lose()  # first: the end of a command that is killed must not reach the host
        self.kill_all()
        self.plug_in()


AS_BENCHNCNN = """
cat >&2 <<END
loop_count = $1
num_threads = $2
powersave = $3
gpu_device = $4
cooling_down = $5
END
printf '%20s  min = %7.2f  max = %7.2f  avg = %7.2f\\n' "${param##*/}" "$ms" "$ms" "$ms" >&2
"""
"""The end of a fake runner's script: what benchncnn prints on stderr of the file ``$param``, each frame in ``$ms``."""


def make_measurable(phone: FakeDevice, samples: Path) -> None:
    """Let the phone answer as one that is cool, charged and awake; ``samples`` holds its recorded ``getprop``."""
    phone.install("getprop", f"cat '{samples}/getprop.txt'")
    (phone.root / "battery").write_text("Current Battery Service state:\n level: 80\n scale: 100\n temperature: 300\n")
    phone.install(
        "dumpsys", 'case $1 in thermalservice) echo "Thermal Status: 0";; battery) cat "$ROOT/battery";; esac'
    )
    for name in ("settings", "svc", "input", "cmd"):
        phone.install(name, "echo 0")
