"""Files arrive whole or not at all, under whatever name they have, and are not sent twice."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from fake_device import FakeDevice

from android_bench.adb import open_phone
from android_bench.adb_program import AdbProgram
from android_bench.errors import FileMissing, RequestError, TransferFailed

NAMES = [
    "model.tflite",
    "a b;reboot.tflite",
    "$(reboot) `reboot` *.tflite",
    'it\'s "quoted" \\ and,comma=1.tflite',
    "-rf",
    "größe 模型.tflite",
    "two\nlines.tflite",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_just_a_name(device: FakeDevice, tmp_path: Path, name: str) -> None:
    device.install("reboot", 'touch "$ROOT/rebooted"')
    local = tmp_path / name
    local.write_text("weights")
    with open_phone(None) as phone:
        path = phone.push(local, name)
        assert path == f"{phone.folder}/{name}"
        assert phone.run(["cat", path], timeout=10).stdout == b"weights"
        assert phone.run(["sh", "-c", 'cat "$1"', "sh", path], timeout=10).stdout == b"weights"
        phone.pull(path, tmp_path / "back")
    assert (tmp_path / "back").read_text() == "weights"
    assert not (device.root / "rebooted").exists()
    assert device.is_clean()


def test_nothing_is_sent_when_the_hash_matches(
    device: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    push = AdbProgram.push
    monkeypatch.setattr(AdbProgram, "push", lambda self, *args: sent.append(args[1].name) or push(self, *args))
    old, same, retrained = (tmp_path / name for name in ("old", "same", "retrained"))
    old.write_bytes(b"\x00" * 1000)
    same.write_bytes(b"\x00" * 1000)
    retrained.write_bytes(b"\x01" * 1000)  # of the same size
    with open_phone(None) as phone:
        for local in (old, same, retrained):
            path = phone.push(local, "model.tflite")
        there = phone.run(["sha256sum", path], timeout=10).stdout.decode().split()[0]
    assert sent == ["old", "retrained"]
    assert there == hashlib.sha256(retrained.read_bytes()).hexdigest()


def test_a_program_arrives_executable(device: FakeDevice, tmp_path: Path) -> None:
    stub = tmp_path / "runner"
    stub.write_text('#!/bin/sh\necho "$0 $1"; exit 3\n')
    stub.chmod(0o755)
    with open_phone(None) as phone:
        done = phone.run(["env", "A=1", phone.push(stub, "runner"), "--graph=a b"], timeout=10)
    assert done.status == 3 and done.stdout.endswith(b"/runner --graph=a b\n")


def test_a_damaged_file_is_refused_and_the_old_one_stays(
    device: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "model"
    local.write_text("old")
    with open_phone(None) as phone:
        path = phone.push(local, "model")
        push = AdbProgram.push

        def damage(self: AdbProgram, *args: object) -> object:
            done = push(self, *args)
            (device.workspace / "run/model.part").write_text("bit rot")
            return done

        monkeypatch.setattr(AdbProgram, "push", damage)
        local.write_text("new")
        with pytest.raises(TransferFailed, match="arrived damaged"):
            phone.push(local, "model")
        assert phone.run(["cat", path], timeout=10).stdout == b"old"
        assert not (device.workspace / "run/model.part").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "/etc/passwd", ".hidden", "a\0b"])
def test_what_is_no_file_name_is_refused(device: FakeDevice, tmp_path: Path, name: str) -> None:
    local = tmp_path / "model"
    local.write_text("weights")
    with open_phone(None) as phone, pytest.raises(RequestError, match="no name for a file"):
        phone.push(local, name)


def test_local_files_that_cannot_be_read_or_written(device: FakeDevice, tmp_path: Path) -> None:
    with open_phone(None) as phone:
        with pytest.raises(RequestError, match="cannot read"):
            phone.push(tmp_path / "absent", "model")
        path = phone.push(Path(__file__), "model")
        with pytest.raises(RequestError, match="cannot write"):
            phone.pull(path, tmp_path / "no" / "folder")


def test_pulling_what_is_not_there(device: FakeDevice, tmp_path: Path) -> None:
    with open_phone(None) as phone, pytest.raises(FileMissing) as caught:
        phone.pull(f"{phone.folder}/absent", tmp_path / "back")
    assert caught.value.exit_code == 6
    assert list(tmp_path.glob("*back*")) == []


def test_a_megabyte_comes_back_as_it_went(device: FakeDevice, tmp_path: Path) -> None:
    local = tmp_path / "model"
    local.write_bytes(os.urandom(1_500_000))
    with open_phone(None) as phone:
        phone.pull(phone.push(local, "model"), tmp_path / "back")
    assert subprocess.run(["cmp", local, tmp_path / "back"], check=False).returncode == 0
