"""The file service of a fake adb device: STAT STA2 LST2 SEND RECV LIST, rooted in a folder.

Message texts are those of AOSP's file_sync_service.cpp.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import struct
from pathlib import Path

SHELL_USER = 2000


class SyncService:
    """One sync stream. ``space``: bytes that the device still takes, or None; ``read_only``: refuses new files."""

    def __init__(self, stream, root: Path, space: int | None, read_only: bool):
        self.stream, self.root, self.space, self.read_only = stream, root, space, read_only

    def path(self, name: str) -> Path:
        return self.root / posixpath.normpath("/" + name).lstrip("/")

    def serve(self) -> None:
        answers = {b"STAT": self.stat_v1, b"STA2": self.stat_v2, b"LST2": self.lstat_v2}
        answers |= {b"RECV": self.send_file, b"SEND": self.receive_file, b"LIST": self.list_folder}
        while True:
            ident, length = struct.unpack("<4sI", self.stream.read(8))
            if ident == b"QUIT":
                return
            name = self.stream.read(length).decode()
            if ident not in answers:
                self.fail("unknown sync id")
                return
            answers[ident](name)

    def fail(self, message: str) -> None:
        data = message.encode()
        self.stream.write(b"FAIL" + struct.pack("<I", len(data)) + data)

    def stat_v1(self, name: str) -> None:
        try:
            found = self.path(name).lstat()
            values = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
        except OSError:
            values = (0, 0, 0)
        self.stream.write(b"STAT" + struct.pack("<3I", *values))

    def stat_v2(self, name: str, ident: bytes = b"STA2", follow: bool = True) -> None:
        try:
            s = self.path(name).stat(follow_symlinks=follow)
        except OSError as error:
            self.stream.write(ident + struct.pack("<I", error.errno or 0) + bytes(64))
            return
        times = (int(s.st_atime), int(s.st_mtime), int(s.st_ctime))
        owner = (SHELL_USER, SHELL_USER)
        head = (0, s.st_dev, s.st_ino, s.st_mode, s.st_nlink, *owner, s.st_size)
        self.stream.write(ident + struct.pack("<IQQIIIIQqqq", *head, *times))

    def lstat_v2(self, name: str) -> None:
        self.stat_v2(name, b"LST2", follow=False)

    def send_file(self, name: str) -> None:
        try:
            with self.path(name).open("rb") as file:
                while data := file.read(65536):
                    self.stream.write(b"DATA" + struct.pack("<I", len(data)) + data)
            self.stream.write(b"DONE" + bytes(4))
        except OSError as error:
            self.fail(f"open failed: {error.strerror}")

    def receive_file(self, spec: str) -> None:
        """The data is drained even when it cannot be kept, as adbd does."""
        name, mode = spec.rsplit(",", 1)
        path, problem, taken = self.path(name), "", 0
        try:
            if self.read_only:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            file = path.open("wb")
        except OSError as error:
            file, problem = io.BytesIO(), f"couldn't create file: {error.strerror}"
        with file:
            while True:
                ident, length = struct.unpack("<4sI", self.stream.read(8))
                if ident == b"DONE":
                    break
                data = self.stream.read(length)
                taken += length
                if self.space is not None and taken > self.space:
                    problem = problem or f"write failed: {os.strerror(errno.ENOSPC)}"
                else:
                    file.write(data)
        if problem:
            path.unlink(missing_ok=True)
            self.fail(problem)
            return
        path.chmod(int(mode) & 0o777)
        os.utime(path, (length, length))  # DONE carries the modification time
        self.stream.write(b"OKAY" + bytes(4))

    def list_folder(self, name: str) -> None:
        try:
            for entry in sorted(self.path(name).iterdir()):
                s, label = entry.lstat(), entry.name.encode()
                size = s.st_size & 0xFFFFFFFF
                self.stream.write(b"DENT" + struct.pack("<4I", s.st_mode, size, int(s.st_mtime), len(label)) + label)
        except OSError:
            pass
        self.stream.write(b"DONE" + bytes(16))
