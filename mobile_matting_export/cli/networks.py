"""``mmexport networks``: what can be converted by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@output_options
def networks(output: Output) -> None:
    """List the networks known by name: paper, input, parameters, MACs, weights."""
    from mobile_matting_export.bundled import bundled_weights
    from mobile_matting_export.graph.cost import count_module_cost
    from mobile_matting_export.networks import ALL

    rows: list[dict[str, Any]] = []
    for spec in ALL:
        channels = 3 + sum(state.channels for state in spec.state)
        params, macs = count_module_cost(spec.build, (1, channels, *spec.size))
        bundled = bundled_weights(spec.name)
        rows.append(
            {
                "name": spec.name,
                "title": spec.title,
                "paper": spec.paper,
                "repository": spec.repository,
                "licence": spec.licence,
                "size": list(spec.size),
                "params": params,
                "macs": macs,
                "bundled": bundled is not None,
                "weights": bundled.name if bundled is not None else spec.weights,
            }
        )
    output.result({"networks": rows}, lambda: _table(rows))


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "input", "params", "MMACs", "weights", "paper", box=None, pad_edge=False)
    for row in rows:
        weights = "bundled" if row["bundled"] else "--checkpoint"
        size = "x".join(map(str, row["size"]))
        cells = (row["name"], size, f"{row['params']:,}", f"{row['macs'] / 1e6:,.1f}", weights, row["paper"])
        table.add_row(*map(escape, cells))
    return table
