"""Fetch published runner binaries once: a pinned version, resumed where it broke off, its sha256 kept and checked.

The publishers give no checksums. The first download's is therefore recorded, and whatever comes later under the same
address must have it.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from android_bench.errors import BenchError, RequestError
from android_bench.find_program import CHECKSUMS, read_checksums
from android_bench.hash_file import file_sha256

_CHUNK = 1 << 16
_TIMEOUT_S = 30.0
_PARTIAL, _RANGE_NOT_SATISFIABLE = 206, 416


@dataclass(frozen=True)
class Published:
    """A binary that its makers publish. ``path`` below the base address has a place for the version."""

    runner: str
    program: str
    base: str
    path: str
    version: str


PUBLISHED = (
    # https://ai.google.dev/edge/litert/next/benchmark; the GPU accelerator is linked in
    Published(
        runner="litert",
        program="benchmark_model",
        base="https://storage.googleapis.com/litert/binaries",
        path="{version}/android_arm64/benchmark_model",
        version="2.2.0",
    ),
)
"""What can be fetched. benchncnn and TFLite's own benchmark_model are not published: they have to be built."""


class FetchFailed(BenchError):
    """The server did not give the file, or gave another one. What came so far is kept for the next try."""

    exit_code = 2


def fetch_runner(
    published: Published, folder: Path, announce: Callable[[str], None] = lambda message: None
) -> tuple[Path, str]:
    """Get a binary into ``folder/<runner>/<program>``; nothing is downloaded when it is there and unchanged.

    Returns:
        Its path and its sha256.

    Raises:
        FetchFailed: not reachable, cut off (run again to go on), or not the file that was recorded.
        RequestError: the folder is not writable.
    """
    address = f"{published.base}/{published.path.format(version=published.version)}"
    name = f"{published.runner}/{published.program}"
    target = folder / name
    recorded = read_checksums(folder)
    if target.is_file() and recorded.get(address) == file_sha256(target):
        announce(f"{target} is there, with the recorded sha256")
        return target, recorded[address]
    part = partial_file(target, address)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        announce(f"fetching {address}")
        _download(address, part)
        found = file_sha256(part)
        if recorded.get(address, found) != found:
            part.unlink()
            raise FetchFailed(
                f"{address} is not the file that was first fetched: sha256 {found}, recorded {recorded[address]}. "
                f"Find out why; to take the new one remove {folder / CHECKSUMS}"
            )
        part.chmod(0o755)
        part.replace(target)
        _record(folder, recorded | {address: found, name: found})
    except OSError as error:
        raise RequestError(f"cannot write {target}: {error.strerror or error}") from error
    return target, found


def partial_file(target: Path, address: str) -> Path:
    """Where a download of ``address`` grows: another address never goes on with it."""
    return target.with_name(f"{target.name}-{hashlib.sha256(address.encode()).hexdigest()[:12]}.part")


def _download(address: str, part: Path) -> None:
    """Append what is missing to ``part``."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            goes_on = answer.status == _PARTIAL
            expected = (have if goes_on else 0) + int(answer.headers.get("Content-Length") or 0)
            with part.open("ab" if goes_on else "wb") as file:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:  # all of it had come
            return
        raise FetchFailed(f"{address} cannot be fetched: {error.code} {error.reason}; is the version right?") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise FetchFailed(f"{address} cannot be fetched: {error}; run it again to go on where it broke off") from error
    if part.stat().st_size != expected:
        raise FetchFailed(f"{address} broke off after {part.stat().st_size} of {expected} bytes: run it again to go on")


def _record(folder: Path, checksums: dict[str, str]) -> None:
    scratch = folder / f".{CHECKSUMS}"
    scratch.write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    scratch.replace(folder / CHECKSUMS)
