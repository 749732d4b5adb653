"""Write the inspection's page: the graph coloured by verdict, the reasons, every operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_matting_export.errors import UsageError
from mobile_matting_export.group_refusals import group_refusals, modules_of, quote, summarize_outcome
from mobile_matting_export.inspection import BackendReport, Inspection, Op, Tensor, Verdict
from mobile_matting_export.report.page import render_page, write_page


def write_inspection_page(path: Path, inspection: Inspection) -> None:
    """Write one self-contained page without scripts; the same inspection gives the same bytes.

    Raises:
        UsageError: the place is not writable.
    """
    graph = inspection.graph
    peak = None if inspection.memory.at is None else graph.ops[inspection.memory.at]
    values = {
        "title": inspection.title,
        "files": [Path(file).name for file in inspection.files],
        "total_bytes": inspection.bytes,
        "macs": sum(op.macs or 0 for op in graph.ops),
        "count": len(graph.ops),
        "notes": graph.notes,
        "memory": inspection.memory,
        "peak": peak,
        "backends": [_backend(inspection, backend) for backend in inspection.backends],
        "remarks": [
            {
                "kinds": sorted({graph.ops[number].kind for number in remark.ops}),
                "ops": remark.ops,
                "modules": modules_of(graph, remark.ops),
                "says": remark.says,
                "remedy": remark.remedy,
            }
            for remark in inspection.remarks
        ],
        "hazards": [{"hazard": hazard, "op": graph.ops[hazard.op]} for hazard in inspection.hazards],
        "times": inspection.times,
        "has_modules": any(op.module for op in graph.ops),
        "rows": [_row(inspection, op) for op in graph.ops],
    }
    try:
        write_page(path, render_page("inspection_page.html.j2", values))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --html") from error


def _backend(inspection: Inspection, backend: BackendReport) -> dict[str, Any]:
    groups = group_refusals(inspection.graph, backend)
    return {
        "title": backend.title,
        "rules": backend.rules,
        "outcome": backend.outcome,
        "sentence": summarize_outcome(backend),
        "cells": [
            {"number": op.number, "kind": op.kind, "mark": mark(backend.verdicts[op.number])}
            for op in inspection.graph.ops
        ],
        "groups": [{"group": group, "quote": quote(group.kind, group.first)} for group in groups],
    }


def mark(verdict: Verdict) -> str:
    """The class that colours a verdict: ``taken``, ``refused`` or ``stops``."""
    return "taken" if verdict.taken else "stops" if verdict.fatal else "refused"


def _row(inspection: Inspection, op: Op) -> dict[str, Any]:
    graph = inspection.graph
    return {
        "op": op,
        "version": "" if graph.format == "ncnn" else f"v{op.version}",
        "inputs": [_tensor(tensor) for tensor in graph.inputs_of(op)],
        "outputs": [_tensor(tensor) for tensor in graph.outputs_of(op)],
        "time": _time(inspection, op),
        "verdicts": [
            {"mark": mark(verdict), "means": verdict.means}
            for verdict in (backend.verdicts[op.number] for backend in inspection.backends)
        ],
    }


def _time(inspection: Inspection, op: Op) -> str:
    times = inspection.times
    if times is None:
        return ""
    if times.ms:
        return f"{times.ms[op.number]:.3f} ms, {times.share(op.number):.1%}"
    return f"{inspection.share_of_macs(op):.1%}" if op.macs else ""


def _tensor(tensor: Tensor) -> str:
    shape = "?" if tensor.shape is None else "×".join(map(str, tensor.shape)) or "1"
    return f"{shape} {tensor.dtype.lower()}{', stored' if tensor.constant else ''}"
