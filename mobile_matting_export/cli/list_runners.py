"""Which phone runners are on this computer, and how to get the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_matting_export.result_cache import usual_folder


def runners_folder() -> Path:
    """Where fetched runners are kept: beside the earlier results, in the user's cache folder of mmexport."""
    return usual_folder() / "runners"


def list_runners() -> list[dict[str, Any]]:
    """A row a runner: ``runner``, ``program``, ``path`` (None when it is not here), ``note`` (how to get it)."""
    from android_bench.errors import RequestError
    from android_bench.find_program import find_program
    from android_bench.runners import RUNNERS

    listed = []
    for runner in (entry for entry in RUNNERS if entry.name != "host"):
        row: dict[str, Any] = {"runner": runner.name, "program": runner.program, "path": None, "note": ""}
        try:
            row["path"] = str(find_program(runner.runtime, None, runner.name, runners_folder()).path)
        except RequestError as error:
            row["note"] = str(error)
        listed.append(row)
    return listed
