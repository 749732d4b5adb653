"""Write the page of a trade-off: plots of error over latency and size, the table, worst pictures, plans of int8."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import UsageError
from mobile_matting_export.matte import read_image_spec
from mobile_matting_export.report.int8_section import plot_box, plot_plans
from mobile_matting_export.report.int8_summary import as_decibels, as_percent
from mobile_matting_export.report.page import format_bytes, format_error, render_page, write_page
from mobile_matting_export.report.plot_artifacts import Spot, plot_artifacts
from mobile_matting_export.report.show_worst import show_worst
from mobile_matting_export.trade_off import BUDGET_MEANS, P90_MEANS, ArtifactRow, DeviceLatencies, Latency, TradeOff

# in this order they have their colours in style.css
_KINDS = ("fp32", "fp16", "w8", "int8")
# of 8 bits a pixel
_HALF_A_STEP = 0.5 / 255


def require_page_place(path: Path) -> None:
    """Refuse, before any work is done, a place that no page can be written to; nothing is made there.

    Raises:
        UsageError: it is a folder, or in none, or not writable.
    """
    standing = path if path.exists() else path.parent
    if path.is_dir():
        reason = "it is a folder"
    elif not standing.exists():
        reason = f"there is no folder {standing}"
    elif standing != path and not standing.is_dir():
        reason = f"{standing} is a file"
    elif not os.access(standing, os.W_OK):
        reason = f"{standing} is not writable"
    else:
        return
    raise UsageError(f"cannot write {path}: {reason}; choose another --html")


def write_trade_off_page(path: Path, trade_off: TradeOff) -> None:
    """Write one self-contained page; the same arguments give the same bytes.

    Raises:
        UsageError: the place is not writable.
    """
    text = render_page("trade_off_page.html.j2", _values(trade_off))
    try:
        write_page(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --html") from error


def _values(trade_off: TradeOff) -> dict[str, Any]:
    rows = trade_off.rows
    scored = [row for row in rows if row.scored is not None]
    return {
        "network": trade_off.network,
        "frames": sorted({row.scored.frames for row in scored if row.scored is not None}),
        "box": plot_box(),
        "kinds": [kind for kind in _KINDS if any(row.facts.precision == kind for row in scored)],
        "has_int8": any(row.facts.int8 is not None for row in rows),
        "plots": _plots(trade_off),
        "about_sizes": trade_off.about_sizes,
        "budget_means": BUDGET_MEANS,
        "p90_means": [words for kind, words in P90_MEANS.items() if kind in trade_off.p90_of],
        "devices": [_about(*named, trade_off) for named in _named(trade_off)],
        "rows": [_row(row, number, trade_off) for number, row in enumerate(rows)],
        "unscored": [{"label": row.label, "why": row.why} for row in rows if row.scored is None],
        "worst": [
            {
                "label": row.label,
                "band": _error(row.scored.score.worst_band),
                **show_worst(row.scored.worst, row.scored.matte, read_image_spec(row.artifact.manifest)),
            }
            for row in scored
            if row.scored is not None and not _is_alike(row)
        ],
        "alike": [row.label for row in scored if _is_alike(row)],
        "plans": [plans for row in rows if (plans := _plans(row)) is not None],
    }


def _named(trade_off: TradeOff) -> list[tuple[str, DeviceLatencies]]:
    return list(zip(trade_off.device_names, trade_off.devices, strict=True))


def _is_alike(row: ArtifactRow) -> bool:
    return row.scored is not None and row.scored.score.max_abs < _HALF_A_STEP


def _plots(trade_off: TradeOff) -> list[dict[str, Any]]:
    """Error over latency on each device, and over size: one range of errors, so that neighbours can be compared."""
    drawn = [
        (f"latency, {name}", "milliseconds a frame", _in_milliseconds, _latency_spots(trade_off.rows, device))
        for name, device in _named(trade_off)
    ]
    drawn.append(("size", "size of the files", _in_bytes, _size_spots(trade_off.rows)))
    errors = [spot.y for *_, spots in drawn for spot in spots]
    return [
        {"title": title, "axis": axis} | plot_artifacts(spots, errors, words)
        for title, axis, words, spots in drawn
        if spots
    ]


def _in_milliseconds(value: float) -> str:
    return f"{value:g}"


def _in_bytes(value: float) -> str:
    return format_bytes(round(value))


def _latency_spots(rows: Sequence[ArtifactRow], device: DeviceLatencies) -> list[Spot]:
    return [
        spot
        for row, latency in zip(rows, device.latencies, strict=True)
        if latency is not None and (spot := _spot(row, latency)) is not None
    ]


def _spot(row: ArtifactRow, latency: Latency) -> Spot | None:
    if row.scored is None or latency.p50 is None or not math.isfinite(row.scored.score.mad_band):
        return None
    end = max(latency.p50, latency.p90 or 0.0)
    tooltip = (
        f"{row.label}: p50 {latency.p50:.2f} ms, p90 {end:.2f} ms (of {latency.p90_of}) on {latency.on}, "
        f"{format_bytes(row.facts.bytes)}, MAD in the band {format_error(row.scored.score.mad_band)}"
    )
    return Spot(
        latency.p50, end, row.scored.score.mad_band, row.label, row.facts.precision, not latency.doubts, tooltip
    )


def _size_spots(rows: Sequence[ArtifactRow]) -> list[Spot]:
    spots = []
    for row in rows:
        band = math.inf if row.scored is None else row.scored.score.mad_band
        size = row.facts.bytes
        if math.isfinite(band):
            tooltip = f"{row.label}: {format_bytes(size)}, MAD in the band {format_error(band)}"
            spots.append(Spot(size, size, band, row.label, row.facts.precision, True, tooltip))
    return spots


def _about(name: str, device: DeviceLatencies, trade_off: TradeOff) -> dict[str, Any]:
    doubts = [
        f"{row.label}: {doubt}"
        for row, latency in zip(trade_off.rows, device.latencies, strict=True)
        for doubt in (() if latency is None else latency.doubts)
    ]
    return {
        "name": name,
        "device": device.device,
        "source": device.source,
        "date": device.date,
        "doubts": doubts,
        "remarks": device.remarks,
    }


def _row(row: ArtifactRow, number: int, trade_off: TradeOff) -> dict[str, Any]:
    int8, scored = row.facts.int8, row.scored
    name = f"{row.facts.target} {row.facts.precision}"
    return {
        "name": name,
        "told_apart_by": row.label.removeprefix(name).strip(),
        "bytes": format_bytes(row.facts.bytes),
        "times": [_time(device.latencies[number]) for device in trade_off.devices],
        "error": None
        if scored is None
        else {
            "band": _error(scored.score.mad_band),
            "mad": _error(scored.score.mad),
            "psnr": as_decibels(scored.score.psnr),
            "worst": scored.score.worst,
            "worst_band": _error(scored.score.worst_band),
            "on": scored.device,
        },
        "int8": None
        if int8 is None
        else {"macs": as_percent(int8.macs), "used": as_percent(int8.used), "budget": int8.budget},
    }


def _time(latency: Latency | None) -> dict[str, str]:
    if latency is None:
        return {"words": "not measured", "on": ""}
    if latency.p50 is None or latency.p90 is None:
        return {"words": "no time ?", "on": latency.on}
    return {
        "words": f"{latency.p50:.2f} / {latency.p90:.2f}{' ?' if latency.doubts else ''}",
        "on": f"{latency.on}, of launches" if latency.p90_of == "launches" else latency.on,
    }


def _plans(row: ArtifactRow) -> dict[str, Any] | None:
    """The plans of an int8 artifact over their counted share of int8; None where there are not two to draw."""
    if row.facts.int8 is None:
        return None
    found = row.facts.int8.record
    # to the right is dearer in every plot
    plots = plot_plans(
        found, lambda one: one["macs_float"], lambda share: f"{100 * share:g} %", "multiply-adds in float, counted"
    )
    return {"label": row.label, "plot": plots[0], "count": len(found["points"])} if plots else None


def _error(value: float | None) -> str:
    return "no number" if value is None or not math.isfinite(value) else format_error(value)
