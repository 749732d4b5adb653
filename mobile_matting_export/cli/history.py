"""``mmexport history``: what `bench --history` gathered, as a table and as a page with charts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@click.argument("file")
@click.option("--plot", help="Write a page with a chart of latency over time for each device here (HTML).")
@output_options
def history(file: str, plot: str | None, output: Output) -> None:
    """Show the results in FILE, which `mmexport bench --history FILE` appends to, oldest first.

    \b
    Example:
      mmexport history bench.jsonl --plot history.html
    """
    from android_bench.keep_history import read_history
    from android_bench.plot_history import plot_history
    from android_bench.report import write_text

    lines, unreadable = read_history(Path(file))
    if unreadable:
        output.note(f"{file}: left out, since they cannot be read: {unreadable} of {unreadable + len(lines)} lines")
    if plot is not None:
        write_text(Path(plot), plot_history(lines))
    output.result({"results": lines, "unreadable": unreadable, "plot": plot}, lambda: _table(lines))


def _table(lines: list[dict[str, Any]]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table("date", "device", "artifact", "p50", "p90", "verdict", box=None, pad_edge=False)
    for line in lines:
        names = (line["date"], line["device"], line.get("title"))
        table.add_row(*(escape(str(name)) for name in names), _ms(line["p50"]), _ms(line.get("p90")), line["verdict"])
    return table


def _ms(value: Any) -> str:
    return f"{value:.2f} ms" if isinstance(value, (int, float)) else "?"
