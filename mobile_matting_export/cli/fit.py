"""``mmexport fit``: the largest input size that reaches a frame rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, SizeType, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.fit import Fit, Point

_PERFORMANCE_GATE, _INCONCLUSIVE = 5, 7
_IOU_LOST = 0.1  # chosen, not measured; mmnet, trained at 256, loses 0.74 at 128
_FOR_PHONES = ("threads", "launches", "cooldown", "runner", "adb_server")


@click.command()
@click.argument("network")
@click.option(
    "--device", required=True, help="Serial of the phone as `adb devices` has it, or host for this machine, one thread."
)
@click.option(
    "--min-fps",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Frames a second to reach.",
)
@click.option("--target", "-t", default="tflite-cpu", show_default=True, help="On host: tflite-cpu, ncnn-cpu or onnx.")
@click.option("--precision", "-p", "precisions", multiple=True, help="May be repeated; default: the target's own.")
@click.option(
    "--size",
    "sizes",
    type=SizeType(),
    multiple=True,
    help="Sizes to try; default: from the network's usual size downwards.",
)
@click.option("--checkpoint", "-c", help="Weights; default: the bundled ones.")
@click.option("--data", "-d", help="Folder with image/ and alpha/: quality against ground truth.")
@click.option("--output", "-o", "folder", default="build/fit", show_default=True, help="Artifacts of all sizes.")
@click.option("--threads", type=click.IntRange(1, 64), help="CPU threads on the phone; default: 4.")
@click.option("--launches", type=click.IntRange(5, 1000), help="Starts of the phone's runner to judge by; default: 7.")
@click.option("--cooldown", type=click.FloatRange(min=0), help="Seconds to wait for a cool phone; default: 300.")
@click.option("--runner", help="The phone's runner, or a folder of them; default as in `mmexport bench`.")
@click.option("--adb-server", help="host:port of an adb server; default: adb's own environment variables.")
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
    **flags: Any,
) -> None:
    """Find the largest input size of NETWORK that reaches a frame rate, with the quality of each size tried.

    It starts at the network's usual size and works downwards, halving what is left; larger sizes are tried
    only where --size names them. Time on `host` is process CPU time of one thread, the median of interleaved
    frames. On a phone each size is measured and judged as by `mmexport bench`: what 90 % of the frames keep,
    with its interval; a time that cannot be defended is inconclusive and counts as too slow.
    Exit code 5 when no size reaches the rate, 7 when one of those was inconclusive.

    \b
    Examples:
      mmexport fit mmnet --device host --min-fps 60 --data photos/
      mmexport fit mmnet --device R5CX --target tflite-gpu --min-fps 30
    """
    from mobile_matting_export.cli.time_on_phone import phone_timer
    from mobile_matting_export.data_set import read_data_set
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.fit import Search, fit_network
    from mobile_matting_export.network import load_network
    from mobile_matting_export.result_cache import open_cache
    from mobile_matting_export.targets import choose_precision, find_target

    for name in _FOR_PHONES:
        if device == "host" and flags[name] is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} is for phones: --device host times one thread of this machine"
            )
    row = find_target(target)
    if "int8" in precisions:
        raise UsageError(
            "fit makes many files and has no calibration pictures for int8: find the size with fp32 or fp16, then "
            "convert it with --precision int8"
        )
    chosen = tuple(dict.fromkeys(choose_precision(row, wanted) for wanted in (precisions or (None,))))
    weights = None if checkpoint is None else Path(checkpoint)
    clips = () if data is None else read_data_set(Path(data))
    usual = sizes[0] if ".py:" in network and sizes else None
    with output.progress(total=40) as announce:
        search = Search(row, chosen, min_fps, Path(folder), sizes, clips, open_cache(None))
        if device != "host":
            search = replace(search, timer=phone_timer(device, row, flags, announce))
        found = fit_network(lambda size: load_network(network, weights, size or usual), search, announce)
    output.result(_as_json(found, network, row.name, device, min_fps), lambda: _table(found, device))
    if found.chosen is None:
        # no raise: the result is on stdout already, and with --json nothing may follow it there
        doubtful = [point for point in found.points if point.doubtful]
        click.echo(f"mmexport: {_why_none(network, device, min_fps, doubtful)}", err=True)
        raise click.exceptions.Exit(_INCONCLUSIVE if doubtful else _PERFORMANCE_GATE)


def _why_none(network: str, device: str, min_fps: float, doubtful: list[Point]) -> str:
    where = "this machine" if device == "host" else device
    if doubtful and (timing := doubtful[0].timing) is not None:
        height, width = doubtful[0].size
        return (
            f"inconclusive: no size of {network} reaches {min_fps:g} frames a second on {where} beyond doubt; "
            f"{height}x{width} {doubtful[0].precision}: {timing.reason}"
        )
    return (
        f"no size of {network} tried reaches {min_fps:g} frames a second on {where}; give a "
        "smaller --size, a smaller network, or a lower --min-fps"
    )


def _as_json(found: Fit, network: str, target: str, device: str, min_fps: float) -> dict[str, Any]:
    return {
        "network": network,
        "target": target,
        "device": device,
        "min_fps": min_fps,
        "reference": found.reference,
        "full_size": found.full,
        "chosen": None if found.chosen is None else _point(found.chosen, device),
        "points": [_point(point, device) for point in found.points],
    }


def _point(point: Point, device: str) -> dict[str, Any]:
    timing = point.timing
    ms = None if timing is None else timing.ms
    return {
        "size": list(point.size),
        "precision": point.precision,
        "artifact": None if point.artifact is None else str(point.artifact.folder),
        "cpu_ms" if device == "host" else "p90_ms": ms,
        "fps": None if ms is None else 1000 / ms,
        "reaches": point.reaches,
        "outcome": None if timing is None else timing.outcome,
        "reason": None if timing is None else timing.reason or None,
        "quality": point.quality,
        "parity": None if point.artifact is None else point.artifact.manifest["parity"],
        "missed": point.missed,
    }


def _table(found: Fit, device: str) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    time = "CPU ms" if device == "host" else "p90 ms"
    table = Table("size", "precision", time, "fps", "MAD", "IoU", "parity", "", box=None, pad_edge=False)
    for point in found.points:
        size = f"{point.size[0]}x{point.size[1]}"
        ms = None if point.timing is None else point.timing.ms
        if point.artifact is None or point.quality is None:
            table.add_row(size, point.precision, "-", "-", "-", "-", "missed", "")
            continue
        table.add_row(
            size,
            point.precision,
            "-" if ms is None else f"{ms:.2f}",
            "-" if ms is None else f"{1000 / ms:.1f}",
            f"{point.quality['mad']:.4f}",
            f"{point.quality['iou']:.4f}",
            f"{point.artifact.manifest['parity']['max_abs']:.1e}",
            _verdict(point, found),
        )
    lines: list[RenderableType] = [table, f"MAD and IoU against {found.reference}."]
    for point in found.points:
        reason = point.missed or (point.timing.reason if point.timing is not None else "")
        if reason:
            lines.append(Text(f"{point.size[0]}x{point.size[1]} {point.precision}: {reason.removesuffix('.')}."))
    if found.full is not None:
        lines.append(f"The network at its full size: MAD {found.full['mad']:.4f}, IoU {found.full['iou']:.4f}.")
    if found.chosen is not None and found.chosen.artifact is not None:
        lines.append(f"Artifact: {found.chosen.artifact.folder}")
        if warning := _doubt(found.chosen, found):
            lines.append(Text(warning))
    return Group(*lines)


def _verdict(point: Point, found: Fit) -> str:
    if point is found.chosen:
        return "chosen"
    return "" if point.reaches else "inconclusive" if point.doubtful else "too slow"


def _doubt(chosen: Point, found: Fit) -> str:
    """That the mattes of the size chosen are others than those of the full size; empty where they are not."""
    if chosen.quality is None:
        return ""
    lost = (1.0 if found.full is None else found.full["iou"]) - chosen.quality["iou"]
    if lost <= _IOU_LOST:
        return ""
    height, width = chosen.size
    return (
        f"warning: at {height}x{width} the mattes lose {lost:.2f} of IoU: look at them (`mmexport matte`), or take a "
        "network that was trained for this size"
    )
