"""Refuses a file of which an operation would leave the accelerator that its target is for."""

from __future__ import annotations

from pathlib import Path

from mobile_matting_export.delegates.judge_graph import judge_all
from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.group_refusals import group_refusals, quote, summarize_outcome

# XNNPACK is where an operation falls to
_GPU_BACKENDS = ("classic", "ml_drift")


def require_gpu(path: Path) -> None:
    """Check a TFLite file against the rules of both GPU delegates.

    Raises:
        ConversionError: names the first operation that a delegate refuses, its module, why, and the ways out.
    """
    graph = read_graph(path)
    for report in judge_all(graph):
        if report.name not in _GPU_BACKENDS or report.outcome == "full":
            continue
        group = group_refusals(graph, report)[0]
        place = f", from {group.modules[0]}" if group.modules else ""
        said = f" ({quote(group.kind, group.first)})" if group.first.reason else ""
        help_ = f" What helps: {group.first.remedy}." if group.first.remedy else ""
        raise ConversionError(
            f"not all of {path.name} would run on the GPU: {report.title} {summarize_outcome(report)}. First "
            f"{group.kind} {group.ops[0]}{place}: {group.first.means}{said}.{help_} `mmexport inspect` on a file made "
            "with --allow-fallback shows all of it; --allow-fallback accepts it. Nothing is left at the output path"
        )
