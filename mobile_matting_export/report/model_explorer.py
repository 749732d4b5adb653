"""Writes verdicts as node data of Model Explorer, which draws them over the graph of a .tflite file.

The format is that of google-ai-edge/model-explorer, node_data_builder.py, GraphNodeData: ``results`` maps a node's id
to ``value``, ``bgColor`` and ``textColor``. Its reader of .tflite files numbers the operators as the file has them
(direct_flatbuffer_to_json_graph_convert.cc). A file of one GraphNodeData belongs to the graph that is open, one column
of the page; so every backend has a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_matting_export.artifact import write_json
from mobile_matting_export.errors import UsageError
from mobile_matting_export.inspection import BackendReport, Inspection, Verdict

# backgrounds that white text can be read on
_TAKEN, _REFUSED, _STOPS, _TEXT = "#2e7d32", "#c62828", "#4a148c", "#ffffff"


def write_overlays(folder: Path, inspection: Inspection) -> tuple[Path, ...]:
    """Write ``<backend>.json`` into ``folder`` for every backend that has rules for the file.

    Raises:
        UsageError: the file is no .tflite file, or the folder is not writable.
    """
    if inspection.graph.format != "tflite":
        raise UsageError(f"{inspection.title} is an ncnn file, which Model Explorer does not read: drop --overlay")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for backend in inspection.backends:
            paths.append(folder / f"{backend.name}.json")
            write_json(paths[-1], node_data(backend))
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}; choose another --overlay") from error
    return tuple(paths)


def node_data(backend: BackendReport) -> dict[str, Any]:
    """The verdicts of one backend as GraphNodeData: operation number as text -> value and colours."""
    return {
        "name": f"{backend.title}, rules {backend.rules}",
        "results": {str(number): _result(verdict) for number, verdict in enumerate(backend.verdicts)},
    }


def _result(verdict: Verdict) -> dict[str, str]:
    if verdict.taken:
        return {"value": "taken", "bgColor": _TAKEN, "textColor": _TEXT}
    word, color = ("stops", _STOPS) if verdict.fatal else ("CPU", _REFUSED)
    return {"value": f"{word}: {verdict.means}", "bgColor": color, "textColor": _TEXT}
