"""``mmexport targets``: what artifacts can be made, and by which rewrites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@output_options
def targets(output: Output) -> None:
    """List the targets: runtime, accelerator, precisions, rewrites in order; with -v how far the matte may be off."""
    from mobile_matting_export.targets import TARGETS

    rows: list[dict[str, Any]] = [
        {
            "name": row.name,
            "runtime": row.runtime,
            "accelerator": row.accelerator,
            "format": row.format.name,
            "precisions": list(row.limits),
            "default_precision": row.default_precision,
            "limits": {
                precision: {"max_abs": limit.max_abs, "mad": limit.mad} for precision, limit in row.limits.items()
            },
            "rewrites": [
                {"name": rewrite.name, "exact": rewrite.exact, "why": rewrite.why} for rewrite in row.rewrites
            ],
        }
        for row in TARGETS
    ]
    output.result({"targets": rows}, lambda: _with_limits(rows) if output.level > 0 else _table(rows))


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table("target", "runtime", "accelerator", "precisions", "rewrites, in order", box=None, pad_edge=False)
    for row in rows:
        precisions = ", ".join(f"{p} (default)" if p == row["default_precision"] else p for p in row["precisions"])
        rewrites = ", ".join(rewrite["name"] for rewrite in row["rewrites"])
        table.add_row(*map(escape, (row["name"], row["runtime"], row["accelerator"], precisions, rewrites)))
    return table


def _with_limits(rows: list[dict[str, Any]]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    table = Table("target", "precision", "largest max error", "largest MAD", box=None, pad_edge=False)
    for row in rows:
        for precision, limit in row["limits"].items():
            table.add_row(row["name"], precision, f"{limit['max_abs']:g}", f"{limit['mad']:g}")
    told = "Limits of an artifact's alpha against the network's, over all verification frames:"
    return Group(_table(rows), "", told, table)
