"""The real adb client against a fake phone: what goes right, and an adb that does not work."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_device import FakeDevice

from android_bench import adb_program, adb_server
from android_bench.adb import list_devices, open_phone
from android_bench.adb_server import Server, find_server
from android_bench.errors import AdbMissing, AdbServerError, CommandTimeout, NoDevice, RequestError
from android_bench.workspace import FOLDER

ROOT = Path(__file__).resolve().parents[2]


def test_a_phone_runs_a_program_and_is_left_as_it_was(device: FakeDevice) -> None:
    with open_phone(None) as phone:
        assert (phone.serial, phone.folder) == (device.address, FOLDER)
        done = phone.run(["sh", "-c", "echo out; echo err >&2; pwd; exit 7"], timeout=10)
        assert done.status == 7
        assert done.stdout.decode().splitlines() == ["out", str(device.workspace / "run")]
        assert done.stderr == b"err\n"
    assert device.is_clean(within=1)


def test_arguments_arrive_as_they_are(device: FakeDevice) -> None:
    odd = ["", " ", "a  b", "$HOME", "`id`", "'", '"', "\\", "\n", "*", "~", "; exit 3", "-n", "ä\t€"]
    with open_phone(None) as phone:
        done = phone.run(["printf", "%s|", *odd], timeout=10)
        assert done.stdout.decode() == "".join(f"{word}|" for word in odd)
        assert phone.run(["cat"], timeout=10).stdout == b""  # nothing to read, and no waiting for it
        assert phone.run(["no such program"], timeout=10).status == 127
        for wrong in ([], ["a\0b"], ["x" * 70_000]):
            with pytest.raises(RequestError):
                phone.run(wrong, timeout=10)


def test_much_output_arrives_whole(device: FakeDevice) -> None:
    with open_phone(None) as phone:
        done = phone.run(["sh", "-c", "seq 200000; seq 1000 >&2"], timeout=30)
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200001)).encode() and len(done.stderr) == 3893


def test_devices_are_listed_with_their_state(make_device: Callable[..., FakeDevice]) -> None:
    first, second = make_device(model="Tango"), make_device(mode="unauthorized")
    seen = {device.serial: device for device in list_devices()}
    assert str(seen[first.address]) == f"{first.address} (Tango, device)" and seen[first.address].is_usable
    assert not seen[second.address].is_usable


def test_two_phones_at_once(make_device: Callable[..., FakeDevice], tmp_path: Path) -> None:
    phones = [make_device(), make_device()]
    local = tmp_path / "model"
    local.write_bytes(b"weights" * 10_000)

    def use(device: FakeDevice) -> bytes:
        with open_phone(device.address) as phone:
            path = phone.push(local, "model")
            phone.run(["sh", "-c", "sleep 0.5"], timeout=10)
            return phone.run(["sh", "-c", 'wc -c < "$1"; pwd', "sh", path], timeout=10).stdout

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(use, phones))
    assert told == [f"70000\n{device.workspace}/run\n".encode() for device in phones]
    assert all(device.is_clean() for device in phones)


def test_a_server_is_named_by_argument(
    make_device: Callable[..., FakeDevice], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    with open_phone(device.address, server=server) as phone:
        assert phone.run(["echo", "hello"], timeout=10).stdout == b"hello\n"
    assert [seen.serial for seen in list_devices(server=server)] == [device.address]


def test_a_server_on_another_computer(make_device: Callable[..., FakeDevice], server: str, tmp_path: Path) -> None:
    device = make_device()
    local = tmp_path / "model"
    local.write_bytes(b"weights" * 1000)
    with relay(server) as elsewhere:  # 127.0.0.2 is this computer, but adb takes it for another one
        assert not find_server(elsewhere).is_local
        with open_phone(device.address, server=elsewhere) as phone:
            path = phone.push(local, "model")
            assert phone.run(["wc", "-c", path], timeout=10).stdout.split()[0] == b"7000"
            phone.pull(path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    assert device.is_clean()


class relay:
    """Forward connections to 127.0.0.2 to an adb server."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))

    def __enter__(self) -> str:
        self.listener = socket.create_server(("127.0.0.2", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return f"127.0.0.2:{self.listener.getsockname()[1]}"

    def __exit__(self, *exc: object) -> None:
        self.listener.close()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(self.target)
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("lab-pi:5037", Server("lab-pi", 5037)),
        ("tcp:lab-pi:5038", Server("lab-pi", 5038)),
        ("tcp:5038", Server("127.0.0.1", 5038)),
        ("localhost:5038", Server("127.0.0.1", 5038)),
        ("[fe80::1]:5037", Server("fe80::1", 5037)),
    ],
)
def test_addresses_of_servers(address: str, expected: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_server(address) == expected
    monkeypatch.setenv("ADB_SERVER_SOCKET", address)
    assert find_server(None) == expected
    assert expected.options == (
        ["-P", "5038"] if expected.is_local else ["-H", expected.host, "-P", str(expected.port)]
    )


@pytest.mark.parametrize("address", ["lab-pi", "lab-pi:", "lab-pi:0", "lab-pi:70000", "a:b:1", "localfilesystem:/x"])
def test_what_is_no_address_of_a_server(address: str) -> None:
    with pytest.raises(RequestError, match="host:port") as caught:
        find_server(address)
    assert caught.value.exit_code == 2


def test_no_adb_on_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdbMissing, match="Debian package adb") as caught:
        list_devices("no-such-adb", "127.0.0.1:1")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("script", "error"),
    [("exit 1", AdbServerError), ("exit 0", AdbServerError), ("exec sleep 60", CommandTimeout)],
)
def test_an_adb_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(adb_program, "_START_TIMEOUT_S", 0.5)
    program = tmp_path / "adb"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(error):
        list_devices(str(program), "127.0.0.1:1")


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[bytes]]]:
    """Answers every request with the bytes in the list, or never when it is empty."""
    answer: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                client.recv(100)
                if answer:
                    client.sendall(answer[0])
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(adb_program, "_ASK_TIMEOUT_S", 0.5)
        monkeypatch.setattr(adb_server, "_LOCAL", ())  # then adb is not asked to start one
        yield f"127.0.0.1:{listener.getsockname()[1]}", answer


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n", b"OKAY", b"OKAYzzzz", b"FAIL00ff", b"O"])
def test_a_server_that_does_not_talk_sense(silent_server: tuple[str, list[bytes]], said: bytes) -> None:
    address, answer = silent_server
    answer += [said] if said else []
    begin = time.monotonic()
    with pytest.raises(AdbServerError, match="adb kill-server"):
        list_devices(server=address)
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("server")
def test_no_device_at_all() -> None:
    with pytest.raises(NoDevice, match="USB debugging"), open_phone("R5CX00DEMO1"):
        pass


def test_the_device_side_needs_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import android_bench.adb, android_bench.device;"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "{'android_bench'}\n"
