"""Where ``bench`` writes reports: a file for one phone, a folder or a pattern for several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mobile_matting_export.errors import UsageError

PLACE = "{device}"
"""Stands for the phone's serial in the name given with ``--report``."""


def report_path(asked: str, serial: str) -> Path:
    """Where the report of a single phone goes: the file named, with the serial for ``{device}`` if that is in it.

    Raises:
        UsageError: there is a folder.
    """
    path = Path(asked.replace(PLACE, file_name(serial)))
    if path.is_dir():
        raise UsageError(
            f"--report {path} is a folder, and one phone's report is a file: name one in it, as {path / 'bench.json'}"
        )
    return path


def report_paths(asked: str | None, serials: Sequence[str]) -> dict[str, Path]:
    """Where each phone's report goes: a folder gets ``<serial>.json``; a name with ``{device}`` gets the serial there.

    Raises:
        UsageError: one file for several phones, two phones with one file, or a folder where a file goes.
    """
    if not asked:
        return {}
    if PLACE not in asked and Path(asked).is_file():
        raise UsageError(
            f"--report {asked} is a file, and several phones write a folder, a report each: name another place, "
            f"or put {PLACE} into the name"
        )
    if PLACE not in asked and Path(asked).suffix == ".json" and not Path(asked).is_dir():
        raise UsageError(
            f"--report {asked} is one file, each phone has a report: name a folder, or put {PLACE} into the name, "
            f"as in {Path(asked).stem}-{PLACE}.json"
        )
    pattern = asked if PLACE in asked else str(Path(asked) / f"{PLACE}.json")
    paths = {serial: report_path(pattern, serial) for serial in serials}
    if len(set(paths.values())) < len(paths):
        raise UsageError(f"--report {asked}: two of {', '.join(serials)} would be one file; bench them one by one")
    return paths


def file_name(serial: str) -> str:
    """A serial as part of a file's name: what is not a letter, digit, dot, dash or underscore becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", serial)
