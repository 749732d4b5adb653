"""What bench, gate and compare write and print, and the exit code that they end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from android_bench.gate import Budget, Verdict
    from android_bench.judged import Judged


def finish(
    output: Output,
    judged: Sequence[Judged],
    budget: Budget | None,
    files: Mapping[str, Any],
    result: Mapping[str, Any],
    verdict: Verdict | None = None,
) -> None:
    """Write the files asked for, print ``result``, say what did not pass, and end with the gravest exit code.

    ``files``: ``report``, ``junit``, ``markdown``, each a path or None. ``verdict``: of them all; None: ``overall``.
    """
    from android_bench.judged import measured_only, overall, unmeasured
    from android_bench.junit import junit_xml
    from android_bench.markdown import markdown_summary
    from android_bench.report import write_report, write_text

    verdict = verdict or overall(judged)
    if files.get("report"):
        write_report(Path(files["report"]), result)
    if files.get("junit"):
        write_text(Path(files["junit"]), junit_xml(judged))
    if files.get("markdown"):
        write_text(Path(files["markdown"]), markdown_summary(judged, budget, verdict))
    shown = measured_only(judged)
    if shown or output.style == "json":
        output.result(result, lambda: _tables(shown, budget))
    if verdict.exit_code:
        # no raise of an error: the result is on stdout already, and with --json nothing may follow it there
        told = [(verdict.outcome, reason) for reason in verdict.reasons]
        # a file that is no report has no row in the table: its sentence is told whatever else was graver
        for outcome, reason in dict.fromkeys([*told, *unmeasured(judged)]):
            click.echo(f"mmexport: {outcome}: {reason}", err=True)
        raise click.exceptions.Exit(verdict.exit_code)


def _tables(judged: Sequence[Judged], budget: Budget | None) -> RenderableType:
    """A row for each artifact and device; several devices: the matrix first."""
    if len(judged) < 2:
        return _table(judged, budget)
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from android_bench.fleet_matrix import build_matrix, cell_words

    matrix = build_matrix(judged)
    shown = Table("p90", *map(escape, matrix.artifacts), box=None, pad_edge=False)
    for device, cells in zip(matrix.devices, matrix.cells, strict=True):
        shown.add_row(escape(device), *(cell_words(entry, budget) for entry in cells))
    return Group(shown, "", _table(judged, budget))


def _table(judged: Sequence[Judged], budget: Budget | None) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    from android_bench.markdown import verdict_word

    columns = ("artifact", "device", "on", "p50", "p90", "95 % of p90", "FPS at p50", "verdict")
    table = Table(*columns, box=None, pad_edge=False)
    for report in judged:
        for entry in report.entries:
            latency = entry.result.get("latency_ms") or {}
            low, high = latency.get("ci95") or (None, None)
            table.add_row(
                escape(entry.title),
                escape(report.device),
                _accelerator(entry.result),
                _ms(latency.get("p50")),
                _ms(latency.get("p90")),
                f"{_ms(low)} to {_ms(high)}",
                _number(entry.result.get("fps")),
                verdict_word(entry, budget),
            )
    return table


def _accelerator(result: Mapping[str, Any]) -> str:
    name = f"{result.get('accelerator', '?')} x{result.get('threads', '?')}"
    proved = result.get("accelerator_proved")
    return name if proved is True else f"{name}, not told" if proved == "unknown" else f"{name}, not proved"


def _ms(value: Any) -> str:
    return f"{value:.2f} ms" if isinstance(value, (int, float)) else "?"


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, (int, float)) else "?"
