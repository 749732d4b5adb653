"""Put a file on a phone, whole or not at all, and get one back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from android_bench.errors import BenchError, DeviceError, FileMissing, RequestError, TransferFailed, UnsupportedDevice
from android_bench.explain_failure import explain_transfer
from android_bench.hash_file import file_sha256

if TYPE_CHECKING:
    from android_bench.phone import Phone

# hashing reads the file once: 100 MB/s and more on every phone with shell_v2, but storage may be asleep
_HASH_TIMEOUT_S = 60.0
_MOVE_TIMEOUT_S = 20.0
_NO_SUCH_PROGRAM = 127


def push_file(phone: Phone, local: Path, name: str) -> str:
    """Copy ``local`` into the phone's folder as ``name``; nothing is sent when the sha256 there is the same.

    Sent under another name, checked by sha256 on the phone, then renamed: a file under its name is a whole file.

    Returns:
        Its path on the phone.

    Raises:
        RequestError: ``name`` is no plain file name, or ``local`` cannot be read.
        DeviceFull, NotWritable, DeviceLost, TransferFailed: with nothing new left on the phone.
    """
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise RequestError(f"{name!r} is no name for a file on a phone: no slash, no leading dot", serial=phone.serial)
    try:
        wanted = file_sha256(local)
    except OSError as error:
        raise RequestError(f"cannot read {local}: {error.strerror}", serial=phone.serial) from None
    path = f"{phone.folder}/{name}"
    if _device_sha256(phone, path) == wanted:
        return path
    part = f"{path}.part"
    try:
        _send(phone, local, part, wanted)
        moved = phone.run(["mv", "-f", part, path], _MOVE_TIMEOUT_S)
        if moved.status != 0:
            raise explain_transfer(moved.stderr.decode(errors="replace"), phone.serial, f"mv {part} {path}")
    except BenchError:
        _remove(phone, part)
        raise
    return path


def _send(phone: Phone, local: Path, part: str, wanted: str) -> None:
    done = phone.adb.push(phone.serial, local, part)
    found = _device_sha256(phone, part)  # raises where the phone is gone; the words of adb do not tell it
    if found == wanted:
        return
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.status != 0:
        raise explain_transfer(said, phone.serial, f"adb push {local} {part}")
    raise TransferFailed(
        f"{local} arrived damaged on device {phone.serial} (sha256 differs): try again, with another cable",
        serial=phone.serial,
        command=f"adb push {local} {part}",
        output=said,
    )


def _remove(phone: Phone, path: str) -> None:
    try:
        phone.run(["rm", "-f", path], _MOVE_TIMEOUT_S)
    except DeviceError:
        return  # gone: its guard removes the folder


def pull_file(phone: Phone, path: str, local: Path) -> None:
    """Copy the phone's file ``path`` to ``local``, checked by sha256 and renamed into place.

    Raises:
        FileMissing: nothing readable there. DeviceLost, TransferFailed, RequestError (``local`` not writable).
    """
    wanted = _device_sha256(phone, path)
    if wanted is None:
        raise FileMissing(f"{path} is not on device {phone.serial}, or may not be read", serial=phone.serial)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{local.name}.", dir=local.parent) as scratch:
            copy = Path(scratch) / "copy"
            done = phone.adb.pull(phone.serial, path, copy, _size(phone, path))
            if copy.is_file() and file_sha256(copy) == wanted:
                copy.replace(local)
                return
    except OSError as error:
        raise RequestError(f"cannot write {local}: {error.strerror}", serial=phone.serial) from None
    phone.require_present()
    said = (done.stdout + done.stderr).decode(errors="replace")
    raise explain_transfer(said, phone.serial, f"adb pull {path} {local}")


def _device_sha256(phone: Phone, path: str) -> str | None:
    """The same of a file on the phone; None when it is not there."""
    done = phone.run(["sha256sum", path], _HASH_TIMEOUT_S)
    if done.status == _NO_SUCH_PROGRAM:
        raise UnsupportedDevice(f"device {phone.serial} has no sha256sum: Android 8 or newer is needed")
    if done.status != 0:
        return None
    # a backslash in front tells that the name behind is escaped
    return done.stdout.decode(errors="replace").lstrip("\\")[:64]


def _size(phone: Phone, path: str) -> int:
    done = phone.run(["stat", "-c", "%s", path], _MOVE_TIMEOUT_S)
    return int(done.stdout) if done.status == 0 and done.stdout.strip().isdigit() else 0
