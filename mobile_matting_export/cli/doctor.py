"""``mmexport doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mobile_matting_export.cli.common import Output, output_options
from mobile_matting_export.cli.list_runners import list_runners

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.doctor import Finding


@click.command()
@output_options
def doctor(output: Output) -> None:
    """Examine this machine: packages, runtimes, devices; says how to get what is missing."""
    from android_bench.choose_device import parse_devices
    from mobile_matting_export.doctor import examine

    findings = [*examine(parse_devices), *_runners()]
    output.result({"findings": [asdict(finding) for finding in findings]}, lambda: _table(findings))


def _runners() -> list[Finding]:
    from mobile_matting_export.doctor import Finding

    return [
        Finding(f"runner {row['runner']} (for phones)", "ok", row["path"])
        if row["path"]
        else Finding(f"runner {row['runner']} (for phones)", "warning", "not here", f"only for phones: {row['note']}")
        for row in list_runners()
    ]


def _table(findings: list[Finding]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "missing": "[red]missing[/]"}
    for finding in findings:
        table.add_row(marks[finding.status], escape(finding.name), escape(finding.found), escape(finding.remedy))
    return table
