"""The bench report, schema mmexport.bench/1: plain values on disk; judging and printing come after.

History of the schema: 1, the first; ``date`` (ISO 8601, UTC, when it ended) and ``cpu`` of a result joined it, older
ones lack them, and call a CPU proved of which nothing was told ("unknown" since).
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any

from android_bench.device import Device, DeviceState
from android_bench.errors import RequestError
from android_bench.explain_foreign_file import explain_foreign_file
from android_bench.gate import Budget, judge_result, judge_results
from android_bench.measure import Plan, Record
from android_bench.stats import summarize
from android_bench.unknown import UNKNOWN, Unknown

SCHEMA = "mmexport.bench/1"


class ReportUnreadable(RequestError):
    """A report is missing, damaged, or of another tool: it passes no gate."""


def build_report(
    device: Device,
    before: DeviceState,
    after: DeviceState | None,
    results: Sequence[dict[str, Any]],
    budget: Budget | None,
) -> dict[str, Any]:
    """The report of one device. ``gate`` is None where no frame rate was asked for."""
    states = {"state_before": before.as_dict(), "state_after": None if after is None else after.as_dict()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    judged = [result | {"gate": None if budget is None else _gate([result], budget)} for result in results]
    return {
        "schema": SCHEMA,
        "date": date,
        "device": {**device.as_dict(), **states},
        "results": judged,
        "gate": None if budget is None else _gate(results, budget),
    }


def build_result(record: Record, plan: Plan, parity: Mapping[str, Any] | None, notes: Sequence[str]) -> dict[str, Any]:
    """An entry of ``results``. ``notes`` are warnings that come from elsewhere."""
    job, launch = record.prepared.job, record.prepared.launch
    summary = summarize(record.launches)
    proofs = [measured.proof for measured in record.measurements]
    return {
        "artifact": job.artifact,
        "title": job.title,
        "sha256": job.sha256,
        "runtime": job.runtime,
        "runner": record.prepared.runner.name,
        "accelerator": job.accelerator,
        "accelerator_proved": _is_proved(record),
        "proof": next(iter(proofs), ""),
        "cpu": _describe_cpu(record),
        "precision": job.precision,
        "threads": launch.threads,
        "affinity": launch.mask or None,
        "launches_asked": plan.launches,
        "launches": record.launches,
        "latency_ms": None
        if summary is None
        else {
            "p50": summary.p50,
            "p90": summary.p90,
            "p90_of": summary.p90_of,
            "ci95": list(summary.ci95),
            "mad": summary.mad,
            "cv": summary.cv,
        },
        "fps": None if summary is None else 1000 / summary.p50,
        "sustained": record.sustained or None,
        "parity": dict(parity) if parity is not None else None,
        "preconditions": list(record.preconditions),
        "refusals": [{"name": f.name, "text": f.text} for f in record.findings if f.weight == "refuses"],
        "warnings": [f"{f.name}: {f.text}" for f in record.findings if f.weight == "warns"] + list(notes),
        "lost": record.lost or None,
    }


def _is_proved(record: Record) -> bool | Unknown:
    """Whether every launch proves what did the work; "unknown" for a CPU of which the runner's text says nothing."""
    proofs = [measured.proof for measured in record.measurements]
    if not proofs or record.refused:
        return False
    if all(proofs):
        return True
    return UNKNOWN if record.prepared.job.accelerator == "cpu" else False


def _describe_cpu(record: Record) -> dict[str, Any] | None:
    """What ran on the CPU: ``kernels`` and how many operations (``nodes`` of ``of``) they took; None for a GPU."""
    if record.prepared.job.accelerator != "cpu" or not record.measurements:
        return None
    first = record.measurements[0]
    nodes, of = (UNKNOWN if value is None else value for value in (first.cpu_nodes, first.graph_nodes))
    return {"kernels": first.cpu_kernels, "nodes": nodes, "of": of}


def _gate(results: Sequence[Mapping[str, Any]], budget: Budget) -> dict[str, Any]:
    verdict = judge_result(results[0], budget) if len(results) == 1 else judge_results(results, budget)
    return {
        "min_fps": budget.min_fps,
        "pre_post_ms": budget.pre_post_ms,
        "budget_ms": budget.frame_ms,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report whole or not at all; NaN and infinities become null.

    Raises:
        RequestError: the place is not writable.
    """
    text = json.dumps(finite(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; its folder is made.

    Raises:
        RequestError: the place is not writable.
    """
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        scratch = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        scratch.chmod(0o644)
        scratch.replace(path)
        scratch = None
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}; choose another place") from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def read_report(path: Path) -> dict[str, Any]:
    """Open a bench report.

    Raises:
        ReportUnreadable: missing, damaged, or another file; says in one sentence which.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ReportUnreadable(f"{path} does not exist: `mmexport bench --report {path}` makes it") from None
    except IsADirectoryError:
        raise ReportUnreadable(explain_foreign_file(str(path), None, SCHEMA)) from None
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ReportUnreadable(f"{path} cannot be read: {reason}") from None
    try:
        report = json.loads(content)
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ReportUnreadable(explain_foreign_file(str(path), content, SCHEMA))
    results, device = report.get("results"), report.get("device")
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise ReportUnreadable(f"{path} holds no list of results: measure again")
    if not isinstance(device, dict):
        raise ReportUnreadable(f"{path} does not say which device was measured: measure again")
    for number, result in enumerate(results):
        if (fault := _fault(result)) is not None:
            raise ReportUnreadable(f"{path} is damaged: result {number + 1} has no usable {fault}; measure again")
    return report


def forget_report(path: Path) -> None:
    """Remove an older report of ours before a new measurement, which may fail: it would pass for the new one."""
    try:
        read_report(path)
    except ReportUnreadable:
        return  # nothing there, or nothing that a gate would take
    path.unlink(missing_ok=True)


def _fault(result: Mapping[str, Any]) -> str | None:
    """The first field that a gate reads and cannot, or None."""
    lists = {"launches": dict, "refusals": dict, "sustained": dict, "preconditions": str}
    for name, kind in lists.items():
        value = result.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(entry, kind) for entry in value)):
            return name
    if not all(isinstance(entry.get(key), str) for entry in result.get("refusals") or () for key in ("name", "text")):
        return "refusals"
    if not isinstance(result.get("launches_asked"), (int, NoneType)):
        return "launches_asked"
    parity = result.get("parity")
    if parity is not None and not (
        isinstance(parity, dict)
        and all(isinstance(parity.get(name), (int, float, NoneType)) for name in ("max_abs", "mad"))
        and isinstance(parity.get("limits"), (dict, NoneType))
    ):
        return "parity"
    numbers = [
        value for launch in result.get("launches") or () for name, value in launch.items() if name.endswith("_ms")
    ]
    return None if all(isinstance(value, (int, float, NoneType)) for value in numbers) else "launches"


def finite(value: Any) -> Any:
    """``value`` with NaN and infinities replaced by None, since JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value
