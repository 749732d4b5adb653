"""A folder of earlier results, each under a key that names everything it depends on.

An entry is a folder of files with a list of their sums. It is written beside its place and renamed into it, so two
processes never see half of one; what was damaged since is dropped and made again. Nothing here is
needed: a cache that cannot be read or written costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobile_matting_export.errors import UsageError

OFF = "off"
"""The value that stands for no cache, on the command line and in ``MMEXPORT_CACHE``."""

MAX_BYTES = 1 << 30

_LIST = "entry.json"
# what such a prefix begins is nobody's entry: a process makes or removes it
_UNFINISHED = "."
# a process that was killed leaves it behind
_ABANDONED_S = 24 * 3600


@dataclass(frozen=True)
class ResultCache:
    """Entries under ``folder``; the longest unused go when they are more than ``max_bytes`` together.

    What else lies there, such as the phone runners in the usual place, is not the cache's and stays.
    """

    folder: Path
    max_bytes: int = MAX_BYTES

    def fetch(self, key: str, into: Path) -> tuple[Path, ...] | None:
        """Copy the files of the entry into the folder ``into``; None where there is no whole entry.

        A file whose bytes are not those that were kept is a damaged entry: it is removed, and None returned.

        Raises:
            OSError: ``into`` cannot be written.
        """
        entry = self.folder / key
        try:
            listed = json.loads((entry / _LIST).read_text(encoding="utf-8"))
            contents = {name: (entry / name).read_bytes() for name in listed}
            whole = all(hashlib.sha256(content).hexdigest() == listed[name] for name, content in contents.items())
        except FileNotFoundError:
            whole = not entry.exists()  # no entry at all is nothing damaged
            contents = {}
        except (OSError, ValueError, TypeError, AttributeError):
            whole, contents = False, {}
        if not whole:
            self._remove(entry)
        if not whole or not contents:
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)  # it was used now
        for name, content in contents.items():
            (into / name).write_bytes(content)
        return tuple(into / name for name in contents)

    def keep(self, key: str, files: Mapping[str, Path]) -> None:
        """Keep copies of ``files`` (name in the entry -> where it is now), unless the disk refuses."""
        place = self.folder / key
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
            try:
                listed = {}
                for name, file in files.items():
                    content = file.read_bytes()
                    listed[name] = hashlib.sha256(content).hexdigest()
                    (scratch / name).write_bytes(content)
                (scratch / _LIST).write_text(json.dumps(listed), encoding="utf-8")
                # another process that was here first wrote the same: a key names everything a result depends on
                scratch.rename(place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            self._shrink()

    def _shrink(self) -> None:
        entries = []
        for place in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process removes, too
                used = place.stat().st_mtime
                if (place / _LIST).is_file() and not place.name.startswith(_UNFINISHED):
                    entries.append((used, sum(file.stat().st_size for file in place.iterdir()), place))
                elif place.name.startswith(_UNFINISHED) and used < time.time() - _ABANDONED_S:
                    shutil.rmtree(place, ignore_errors=True)
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self.max_bytes:
                break
            self._remove(place)
            total -= size

    def _remove(self, entry: Path) -> None:
        """Take the entry away at once, so that nobody reads what is left of it, then its files."""
        with contextlib.suppress(OSError):
            grave = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
            with contextlib.suppress(OSError):
                entry.rename(grave / entry.name)
            shutil.rmtree(grave, ignore_errors=True)


def open_cache(choice: str | None) -> ResultCache | None:
    """The cache of the user's choice: a folder, ``off``, or None for the platform's usual place.

    Raises:
        UsageError: the place is a file.
    """
    if choice == OFF:
        return None
    folder = Path(choice) if choice else usual_folder()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"the cache {folder} is a file: name a folder with --cache, or --cache off")
    return ResultCache(folder)


def usual_folder() -> Path:
    """Where the platform keeps a user's caches: XDG on Linux, ``Library/Caches`` on a Mac, ``LOCALAPPDATA``."""
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "mmexport"
