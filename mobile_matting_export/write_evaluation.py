"""Write an evaluation to disk: evaluation.json with every picture's scores, and the page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobile_matting_export import __version__
from mobile_matting_export.artifact import write_json
from mobile_matting_export.errors import UsageError
from mobile_matting_export.evaluate import Evaluation
from mobile_matting_export.report.evaluation_page import write_evaluation_page

SCHEMA = "mmexport.evaluation/1"
FILES = ("evaluation.json", "evaluation.html")


def require_own(folder: Path) -> None:
    """Raise UsageError when ``folder`` holds files of the names of ``FILES`` that are no evaluation of ours."""
    report, page = (folder / name for name in FILES)
    if not report.exists():
        if page.exists():
            raise UsageError(f"{page} is there without {FILES[0]}, so not made by evaluate: choose another --output")
        return
    try:
        schema = json.loads(report.read_text(encoding="utf-8"))["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        schema = None
    if schema != SCHEMA:
        raise UsageError(f"{report} was not made by evaluate, and would be overwritten: choose another --output")


def write_evaluation(
    folder: Path, data: str, evaluation: Evaluation, rows: Sequence[dict[str, Any]]
) -> tuple[Path, ...]:
    """Write both files beside their places, then rename them; returns the paths of ``FILES``.

    Args:
        folder: made when absent; other files in it are left alone.
        data: what was evaluated on, as the user named it.
        evaluation: from ``evaluate``.
        rows: from ``summarize``.

    Raises:
        UsageError: the folder cannot be made or written.
    """
    names = [metric.name for metric in evaluation.metrics]
    value = {
        "schema": SCHEMA,
        "mmexport": __version__,
        "data": data,
        "films": sorted(evaluation.films),
        "notes": evaluation.notes,
        "results": [
            row
            | {
                "pictures": [
                    {"clip": clip, "name": name} | {metric: scores[metric][index] for metric in names}
                    for index, (clip, name) in enumerate(zip(evaluation.clips, evaluation.names, strict=True))
                ]
            }
            for row, scores in zip(rows, evaluation.scores, strict=True)
        ],
    }
    places = tuple(folder / name for name in FILES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".evaluation.", dir=folder) as scratch:
            made = [Path(scratch) / name for name in FILES]
            write_json(made[0], value)
            write_evaluation_page(made[1], data, evaluation, rows)
            for unfinished, place in zip(made, places, strict=True):
                unfinished.replace(place)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}; choose another --output") from error
    return places
