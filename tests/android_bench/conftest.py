"""A real adb client with a server of its own, and fake phones for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_device import FakeDevice

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@pytest.fixture(scope="session")
def adb_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of an adb server that is ours: the user's own is never touched."""
    if shutil.which("adb") is None:
        pytest.skip("needs the program adb (Debian package adb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("adb_home")  # the server makes keys there
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ADB_", "ANDROID_"))}
    adb = ["adb", "-P", str(port)]
    options = {"env": environment | {"HOME": str(home)}, "capture_output": True, "timeout": 60, "check": True}
    subprocess.run([*adb, "start-server"], **options)
    yield port
    subprocess.run([*adb, "kill-server"], **options)


@pytest.fixture
def server(adb_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of that server, which is the default one for the test too."""
    for name in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_SERIAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb_port))
    return f"127.0.0.1:{adb_port}"


@pytest.fixture
def make_device(server: str, tmp_path: Path) -> Iterator[Callable[..., FakeDevice]]:
    """Make fake phones, connected to the server unless told otherwise; arguments as of FakeDevice."""
    port = server.rpartition(":")[2]
    made: list[FakeDevice] = []

    def adb(*arguments: str) -> None:
        subprocess.run(["adb", "-P", port, *arguments], capture_output=True, timeout=30, check=False)

    def make(connect: bool = True, **options: str) -> FakeDevice:
        device = FakeDevice(tmp_path / f"phone{len(made)}", **options)
        made.append(device.__enter__())
        if connect:
            adb("connect", device.address)
        return device

    yield make
    for device in made:
        device.resume()
        adb("disconnect", device.address)
        device.__exit__()


@pytest.fixture
def device(make_device: Callable[..., FakeDevice]) -> FakeDevice:
    """One fake phone, connected."""
    return make_device()
