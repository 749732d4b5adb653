"""The table of ``mmexport trade-off`` for a terminal, and below it what its figures mean and why some are in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobile_matting_export.trade_off import BUDGET_MEANS, P90_MEANS, ArtifactRow, Latency, TradeOff

if TYPE_CHECKING:
    from rich.console import RenderableType


def show_trade_off(trade_off: TradeOff) -> RenderableType:
    """A row an artifact: its latency on every device, size, error, and share of the quality budget."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Column, Table
    from rich.text import Text

    has_int8 = any(row.facts.int8 is not None for row in trade_off.rows)
    heads = [
        "artifact",
        *(f"p50 / p90 in ms, {name}" for name in trade_off.device_names),
        *("file size", "MAD in the band", "MAD", "worst picture, its MAD in the band", "lowest PSNR"),
        "error computed on",
        *(["share of the quality budget"] if has_int8 else []),
    ]
    # a long word, such as a file's name, goes on in the next line: an ellipsis would hide what tells two columns apart
    columns = [Column(escape(head), overflow="fold", no_wrap=head == heads[0]) for head in heads]
    table = Table(*columns, box=None, pad_edge=False)
    for number, row in enumerate(trade_off.rows):
        times = [_time(one.latencies[number]) for one in trade_off.devices]
        cells = [row.label, *times, f"{row.facts.bytes / 1e6:.2f} MB", *_errors(row)]
        table.add_row(*map(escape, [*cells, *([_budget_share(row)] if has_int8 else [])]))
    remarks = [words for kind, words in P90_MEANS.items() if kind in trade_off.p90_of]
    remarks += [BUDGET_MEANS] if has_int8 else []
    remarks += [trade_off.about_sizes] if trade_off.about_sizes else []
    remarks += [f"{row.label} is not compared: {row.why}" for row in trade_off.rows if row.scored is None]
    remarks += [
        f"? {row.label} on {name}: {doubt}"
        for name, one in zip(trade_off.device_names, trade_off.devices, strict=True)
        for row, latency in zip(trade_off.rows, one.latencies, strict=True)
        for doubt in (() if latency is None else latency.doubts)
    ]
    return Group(table, *([""] if remarks else []), *map(Text, remarks))


def _time(latency: Latency | None) -> str:
    if latency is None:
        return "not measured"
    doubt = " ?" if latency.doubts else ""
    if latency.p50 is None or latency.p90 is None:
        return f"no time{doubt}"
    of = " of launches" if latency.p90_of == "launches" else ""
    return f"{latency.p50:.2f} / {latency.p90:.2f}{of}, {latency.on}{doubt}"


def _errors(row: ArtifactRow) -> tuple[str, ...]:
    if row.scored is None:
        return "not compared", "", "", "", ""
    score = row.scored.score
    worst = f"{score.worst}, {score.worst_band:.2g}"
    return f"{score.mad_band:.2g}", f"{score.mad:.2g}", worst, f"{score.psnr:.1f} dB", row.scored.device


def _budget_share(row: ArtifactRow) -> str:
    int8 = row.facts.int8
    if int8 is None:
        return ""
    return f"{'?' if int8.used is None else f'{100 * int8.used:.0f}'} % of {int8.budget}"
