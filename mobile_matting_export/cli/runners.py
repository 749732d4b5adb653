"""``mmexport runners``: the programs that measure on a phone, and getting those that are published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options
from mobile_matting_export.cli.list_runners import list_runners, runners_folder

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@click.argument("action", type=click.Choice(["list", "fetch"]), default="list")
@click.option("--version", "wanted", help="Another version than the pinned one.")
@click.option("--base-url", help="Another place that holds the same files, such as a mirror.")
@output_options
def runners(action: str, wanted: str | None, base_url: str | None, output: Output) -> None:
    """List the runners and where they are, or fetch those that are published.

    ACTION is list or fetch. A fetched file's sha256 is recorded at its first download and checked ever after;
    an interrupted download goes on where it broke off.

    \b
    Examples:
      mmexport runners
      mmexport runners fetch
    """
    result = _fetch(output, wanted, base_url) if action == "fetch" else {"runners": list_runners()}
    output.result(result, lambda: _table(result["runners"]))


def _fetch(output: Output, wanted: str | None, base_url: str | None) -> dict[str, Any]:
    from dataclasses import replace

    from android_bench.fetch_runner import PUBLISHED, fetch_runner

    fetched = []
    with output.progress(total=len(PUBLISHED)) as announce:
        for pinned in PUBLISHED:
            chosen = replace(pinned, version=wanted or pinned.version, base=(base_url or pinned.base).rstrip("/"))
            path, sha256 = fetch_runner(chosen, runners_folder(), announce)
            fetched.append(
                {"runner": chosen.runner, "program": chosen.program, "path": str(path), "note": f"sha256 {sha256}"}
            )
    return {"runners": fetched}


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table("runner", "program", "where", "note", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["runner"], row["program"], escape(row["path"] or "not here"), escape(row["note"]))
    return table
