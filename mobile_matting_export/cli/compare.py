"""``mmexport compare``: two bench reports, or two artifacts, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from android_bench.compare import Change

_PERFORMANCE = 5
_UNKNOWN = 7


@click.command()
@click.argument("base")
@click.argument("new")
@click.option(
    "--noise",
    type=click.FloatRange(0, 100),
    default=3.0,
    show_default=True,
    help="Percent of change that is never called one.",
)
@click.option(
    "--max-slowdown",
    type=click.FloatRange(0, 1000),
    help="Exit code 5 when a result is slower by more than so many percent, 7 when that cannot be told.",
)
@click.option("--device", "-d", help="Measure the two artifacts there in turns: a serial, or host.")
@output_options
def compare(base: str, new: str, noise: float, max_slowdown: float | None, device: str | None, output: Output) -> None:
    """Show what changed from BASE to NEW: two bench reports, or two artifacts.

    Reports: latency with its interval; a change within the noise is none. Artifacts: size, cost and error as in
    their manifests, and with --device their latency, measured in turns (A B A B).

    \b
    Examples:
      mmexport compare monday.json tuesday.json --max-slowdown 5
      mmexport compare build/mmnet/tflite-cpu-fp32 build/mmnet/ncnn-cpu-fp16 --device host
    """
    from android_bench.compare import compare_reports
    from mobile_matting_export.errors import UsageError

    reports = [_is_report(path) for path in (base, new)]
    if reports[0] != reports[1]:
        raise UsageError("compare two bench reports, or two artifacts, not one of each")
    if reports[0] and device is not None:
        raise UsageError("--device is for artifacts: reports were measured already")
    if not reports[0]:
        if device is None and max_slowdown is not None:
            raise UsageError("--max-slowdown needs two bench reports, or --device to measure on")
        changes = _compare_artifacts(base, new, noise / 100, device, output)
    else:
        from android_bench.report import read_report

        changes = compare_reports(read_report(Path(base)), read_report(Path(new)), noise / 100)
        output.result({"changes": [change.as_dict() for change in changes]}, lambda: _changes_table(changes))
    if max_slowdown is None:
        return
    if any(change.ci95 is not None and change.ci95[0] > 1 + max_slowdown / 100 for change in changes):
        click.echo(f"mmexport: slower by more than {max_slowdown:g} %", err=True)
        raise click.exceptions.Exit(_PERFORMANCE)
    if not changes or any(_cannot_be_told(change, max_slowdown) for change in changes):
        click.echo(f"mmexport: inconclusive: it cannot be told whether {max_slowdown:g} % are kept", err=True)
        raise click.exceptions.Exit(_UNKNOWN)


def _cannot_be_told(change: Change, max_slowdown: float) -> bool:
    return change.verdict == "unknown" or change.ci95 is None or change.ci95[1] > 1 + max_slowdown / 100


def _is_report(path: str) -> bool:
    """A file that is no model file and no manifest; what does not exist is told by whoever reads it."""
    return Path(path).suffix == ".json" and Path(path).name != "manifest.json"


def _compare_artifacts(base: str, new: str, band: float, device: str | None, output: Output) -> list[Change]:
    from android_bench.compare import compare_results
    from mobile_matting_export.artifact import read_artifact
    from mobile_matting_export.cli.bench_jobs import find_artifacts
    from mobile_matting_export.cli.bench_run import run_bench

    if device is None:  # also those that no phone runner takes
        artifacts = [read_artifact(Path(path)) for path in (base, new)]
    else:
        artifacts, _ = find_artifacts([base, new], Path())
    rows = [_facts(artifact.manifest) for artifact in artifacts]
    changes = []
    if device is not None:
        before, after = run_bench(artifacts, device, {"alpha": "skip"}, None, output)["results"]
        changes = [compare_results(before, after, band)]
    result = {"base": rows[0], "new": rows[1], "changes": [change.as_dict() for change in changes]}
    output.result(result, lambda: _facts_table(base, new, rows, changes))
    return changes


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "network": manifest["network"]["name"],
        "target": manifest["target"],
        "precision": manifest["precision"],
        "bytes": sum(entry["bytes"] for entry in manifest["files"]),
        "params": manifest["cost"]["params"],
        "macs": manifest["cost"]["macs"],
        "ops": manifest["cost"]["ops"],
        "max_abs": manifest["parity"]["max_abs"],
        "mad": manifest["parity"]["mad"],
    }


def _facts_table(base: str, new: str, rows: list[dict[str, Any]], changes: list[Change]) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table("", escape(base), escape(new), "change", box=None, pad_edge=False)
    for key in rows[0]:
        before, after = rows[0][key], rows[1][key]
        table.add_row(key, _shown(before), _shown(after), _change(before, after))
    return Group(table, "", _changes_table(changes)) if changes else table


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2e}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _change(before: Any, after: Any) -> str:
    if isinstance(before, int) and isinstance(after, int) and before:
        return "" if before == after else f"{100 * (after - before) / before:+.1f} %"
    return "" if before == after else "differs"


def _changes_table(changes: list[Change]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    table = Table("artifact", "base", "new", "change", "95 % interval", "verdict", "why", box=None, pad_edge=False)
    for change in changes:
        interval = "?" if change.ci95 is None else " to ".join(f"{100 * (side - 1):+.1f} %" for side in change.ci95)
        table.add_row(
            escape(change.title),
            "?" if change.base_ms is None else f"{change.base_ms:.2f} ms",
            "?" if change.new_ms is None else f"{change.new_ms:.2f} ms",
            "?" if change.ratio is None else f"{100 * (change.ratio - 1):+.1f} %",
            interval,
            change.verdict,
            escape("; ".join(change.remarks)),
        )
    return table
