"""``mmexport fit``: the largest input size that reaches a frame rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, SizeType, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.fit import Fit, Point

_PERFORMANCE_GATE = 5


@click.command()
@click.argument("network")
@click.option("--device", required=True, help="host: this machine, one thread. A phone's serial: not built yet.")
@click.option(
    "--min-fps",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Frames a second to reach.",
)
@click.option("--target", "-t", default="tflite-cpu", show_default=True, help="tflite-cpu, ncnn-cpu or onnx.")
@click.option("--precision", "-p", "precisions", multiple=True, help="May be repeated; default: the target's own.")
@click.option(
    "--size", "sizes", type=SizeType(), multiple=True, help="Sizes to try; default: all that the network takes."
)
@click.option("--checkpoint", "-c", help="Weights; default: the bundled ones.")
@click.option("--data", "-d", help="Folder with image/ and alpha/: quality against ground truth.")
@click.option("--output", "-o", "folder", default="build/fit", show_default=True, help="Artifacts of all sizes.")
@output_options
def fit(
    network: str,
    device: str,
    min_fps: float,
    target: str,
    precisions: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    checkpoint: str | None,
    data: str | None,
    folder: str,
    output: Output,
) -> None:
    """Find the largest input size of NETWORK that reaches a frame rate, with the quality of each size tried.

    Time is process CPU time of one thread, the median of interleaved frames. Exit code 5 when no size
    reaches the rate.

    \b
    Example:
      mmexport fit mmnet --device host --min-fps 60 --data photos/
    """
    from mobile_matting_export.data_set import read_data_set
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.fit import Search, fit_network
    from mobile_matting_export.network import load_network
    from mobile_matting_export.result_cache import open_cache
    from mobile_matting_export.targets import choose_precision, find_target

    if device != "host":
        raise UsageError(
            f"--device {device}: fitting on a phone is not built yet: --device host fits on this machine, and "
            "`mmexport bench --device` measures the sizes that you convert"
        )
    row = find_target(target)
    chosen = tuple(dict.fromkeys(choose_precision(row, wanted) for wanted in (precisions or (None,))))
    weights = None if checkpoint is None else Path(checkpoint)
    clips = () if data is None else read_data_set(Path(data))
    usual = sizes[0] if ".py:" in network and sizes else None
    with output.progress(total=40) as announce:
        found = fit_network(
            lambda size: load_network(network, weights, size or usual),
            Search(row, chosen, min_fps, Path(folder), sizes, clips, open_cache(None)),
            announce,
        )
    output.result(_as_json(found, network, row.name, min_fps), lambda: _table(found, min_fps))
    if found.chosen is None:
        # no raise: the result is on stdout already, and with --json nothing may follow it there
        click.echo(
            f"mmexport: no size of {network} tried reaches {min_fps:g} frames a second on this machine; give a "
            "smaller --size, a smaller network, or a lower --min-fps",
            err=True,
        )
        raise click.exceptions.Exit(_PERFORMANCE_GATE)


def _as_json(found: Fit, network: str, target: str, min_fps: float) -> dict[str, Any]:
    return {
        "network": network,
        "target": target,
        "device": "host",
        "min_fps": min_fps,
        "reference": found.reference,
        "full_size": found.full,
        "chosen": None if found.chosen is None else _point(found.chosen, min_fps),
        "points": [_point(point, min_fps) for point in found.points],
    }


def _point(point: Point, min_fps: float) -> dict[str, Any]:
    return {
        "size": list(point.size),
        "precision": point.precision,
        "artifact": None if point.artifact is None else str(point.artifact.folder),
        "cpu_ms": point.ms,
        "fps": None if point.ms is None else 1000 / point.ms,
        "reaches": point.reaches(min_fps),
        "quality": point.quality,
        "parity": None if point.artifact is None else point.artifact.manifest["parity"],
        "missed": point.missed,
    }


def _table(found: Fit, min_fps: float) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    table = Table("size", "precision", "CPU ms", "fps", "MAD x1e-3", "IoU", "parity", "", box=None, pad_edge=False)
    for point in found.points:
        size = f"{point.size[0]}x{point.size[1]}"
        if point.artifact is None or point.ms is None or point.quality is None:
            table.add_row(size, point.precision, "-", "-", "-", "-", "missed", "")
            continue
        verdict = "chosen" if point is found.chosen else "" if point.reaches(min_fps) else "too slow"
        table.add_row(
            size,
            point.precision,
            f"{point.ms:.2f}",
            f"{1000 / point.ms:.1f}",
            f"{point.quality['mad'] * 1e3:.2f}",
            f"{point.quality['iou']:.4f}",
            f"{point.artifact.manifest['parity']['max_abs']:.1e}",
            verdict,
        )
    lines: list[RenderableType] = [table, f"MAD and IoU against {found.reference}."]
    if found.full is not None:
        lines.append(
            f"The network at its full size: MAD {found.full['mad'] * 1e3:.2f}e-3, IoU {found.full['iou']:.4f}."
        )
    if found.chosen is not None and found.chosen.artifact is not None:
        lines.append(f"Artifact: {found.chosen.artifact.folder}")
    return Group(*lines)
