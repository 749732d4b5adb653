"""Run a command as root of private user, network, mount and pid namespaces: ``nsrun.py COMMAND...``.

Only loopback exists inside, and processes end with the command. A private user namespace has a binfmt_misc of its own
too (Linux 6.7 and later), so registering qemu there changes nothing for the machine. Needs the right to write a
65536-wide uid map: root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

NEWNS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
SIOCSIFFLAGS, IFF_UP_LOOPBACK_RUNNING = 0x8914, 0x49
libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    if libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None):
        print(f"mount {target}: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def _exit_like(status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _inside(command: Sequence[str]) -> None:
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("proc", "/proc", "proc")
    _mount("binfmt_misc", "/proc/sys/fs/binfmt_misc", "binfmt_misc")
    with socket.socket() as any_socket:  # bring loopback up
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP_LOOPBACK_RUNNING))
    child = os.fork()  # the first process of a pid namespace is sent no signal that it does not handle
    if child == 0:
        os.execvp(command[0], command)
    while True:
        pid, status = os.wait()  # what is orphaned in here is ours too
        if pid == child:
            _exit_like(status)


def main(command: Sequence[str]) -> None:
    """Set the namespaces up from outside and inside, run the command, exit as it does."""
    unshared_read, unshared_write = os.pipe()
    mapped_read, mapped_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(unshared_read)
        os.close(mapped_write)
        if libc.unshare(NEWUSER | NEWNS | NEWPID | NEWNET):
            print(f"no private namespaces here: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
            os._exit(125)
        os.write(unshared_write, b"x")
        os.read(mapped_read, 1)  # wait until the parent has written the id maps
        os.setgid(0)
        os.setuid(0)
        child = os.fork()  # first process of the new pid namespace
        if child == 0:
            _inside(command)
        _exit_like(os.waitpid(child, 0)[1])
    os.close(unshared_write)
    if os.read(unshared_read, 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 0 65536")
        os.write(mapped_write, b"x")
    _exit_like(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
