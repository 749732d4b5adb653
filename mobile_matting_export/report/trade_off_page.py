"""Write the page of a trade-off: plots of error over latency and size, the table, worst pictures, plans of int8."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import UsageError
from mobile_matting_export.matte import read_image_spec
from mobile_matting_export.report.int8_section import plot_box, plot_plans
from mobile_matting_export.report.int8_summary import as_decibels, as_percent
from mobile_matting_export.report.page import format_bytes, format_error, render_page, write_page
from mobile_matting_export.report.plot_artifacts import Spot, plot_artifacts
from mobile_matting_export.report.show_worst import show_worst
from mobile_matting_export.trade_off import Clocked, Entry, Latency, TradeOff, describe_budget

# in this order they have their colours in style.css
_KINDS = ("fp32", "fp16", "w8", "int8")
# of 8 bits a pixel
_HALF_A_STEP = 0.5 / 255


def write_trade_off_page(path: Path, trade_off: TradeOff) -> None:
    """Write one self-contained page; the same arguments give the same bytes.

    Raises:
        UsageError: the place is not writable.
    """
    text = render_page("trade_off_page.html.j2", _values(trade_off))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --html") from error


def _values(trade_off: TradeOff) -> dict[str, Any]:
    scored = [entry for entry in trade_off.entries if entry.scored is not None]
    return {
        "network": trade_off.network,
        "frames": sorted({entry.scored.frames for entry in scored if entry.scored is not None}),
        "box": plot_box(),
        "kinds": [kind for kind in _KINDS if any(entry.artifact.manifest["precision"] == kind for entry in scored)],
        "has_int8": any("quantization" in entry.artifact.manifest for entry in trade_off.entries),
        "plots": [*_latency_plots(trade_off), *_size_plot(scored)],
        "clocked": [_about(clocked, trade_off) for clocked in trade_off.clocked],
        "rows": [_row(entry, number, trade_off) for number, entry in enumerate(trade_off.entries)],
        "unscored": [{"label": entry.label, "why": entry.why} for entry in trade_off.entries if entry.scored is None],
        "worst": [
            {
                "label": entry.label,
                "band": _error(entry.scored.score.worst_band),
                **show_worst(entry.scored.worst, entry.scored.matte, read_image_spec(entry.artifact.manifest)),
            }
            for entry in scored
            if entry.scored is not None and not _is_alike(entry)
        ],
        "alike": [entry.label for entry in scored if _is_alike(entry)],
        "plans": [plans for entry in trade_off.entries if (plans := _plans(entry)) is not None],
    }


def _is_alike(entry: Entry) -> bool:
    return entry.scored is not None and entry.scored.score.max_abs < _HALF_A_STEP


def _latency_plots(trade_off: TradeOff) -> list[dict[str, Any]]:
    plots = []
    for clocked in trade_off.clocked:
        spots = [
            spot
            for entry, latency in zip(trade_off.entries, clocked.latencies, strict=True)
            if latency is not None and (spot := _spot(entry, latency)) is not None
        ]
        plots += _plot(spots, lambda ms: f"{ms:g}", f"milliseconds a frame, {clocked.device}")
    return plots


def _spot(entry: Entry, latency: Latency) -> Spot | None:
    if entry.scored is None or latency.p50 is None or not math.isfinite(entry.scored.score.mad_band):
        return None
    end = max(latency.p50, latency.p90 or 0.0)
    told = (
        f"{entry.label}: p50 {latency.p50:.2f} ms, p90 {end:.2f} ms on {latency.on}, {format_bytes(entry.bytes)}, "
        f"MAD in the band {format_error(entry.scored.score.mad_band)}"
    )
    kind = entry.artifact.manifest["precision"]
    return Spot(latency.p50, end, entry.scored.score.mad_band, entry.label, kind, not latency.doubts, told)


def _size_plot(scored: list[Entry]) -> list[dict[str, Any]]:
    spots = []
    for entry in scored:
        band = math.inf if entry.scored is None else entry.scored.score.mad_band
        if math.isfinite(band):
            told = f"{entry.label}: {format_bytes(entry.bytes)}, MAD in the band {format_error(band)}"
            kind = entry.artifact.manifest["precision"]
            spots.append(Spot(entry.bytes, entry.bytes, band, entry.label, kind, True, told))
    return _plot(spots, lambda size: format_bytes(round(size)), "size of the files")


def _plot(spots: list[Spot], words: Callable[[float], str], axis: str) -> list[dict[str, Any]]:
    return [{"axis": axis} | plot_artifacts(spots, words)] if spots else []


def _about(clocked: Clocked, trade_off: TradeOff) -> dict[str, Any]:
    doubts = [
        f"{entry.label}: {doubt}"
        for entry, latency in zip(trade_off.entries, clocked.latencies, strict=True)
        for doubt in (() if latency is None else latency.doubts)
    ]
    return {
        "device": clocked.device,
        "source": clocked.source,
        "date": clocked.date,
        "doubts": doubts,
        "remarks": clocked.remarks,
    }


def _row(entry: Entry, number: int, trade_off: TradeOff) -> dict[str, Any]:
    manifest, scored = entry.artifact.manifest, entry.scored
    found = manifest.get("quantization")
    return {
        "label": entry.label,
        "bytes": format_bytes(entry.bytes),
        "times": [_time(clocked.latencies[number]) for clocked in trade_off.clocked],
        "error": None
        if scored is None
        else {
            "band": _error(scored.score.mad_band),
            "mad": _error(scored.score.mad),
            "psnr": as_decibels(scored.score.psnr),
            "worst": scored.score.worst,
            "worst_band": _error(scored.score.worst_band),
        },
        "int8": None
        if found is None
        else {
            "macs": as_percent(found["macs_int8"]),
            "used": as_percent(found["held_out"]["used"]),
            "budget": describe_budget(manifest),
        },
    }


def _time(latency: Latency | None) -> dict[str, str]:
    if latency is None:
        return {"words": "not measured", "on": ""}
    if latency.p50 is None or latency.p90 is None:
        return {"words": "no time ?", "on": latency.on}
    return {"words": f"{latency.p50:.2f} / {latency.p90:.2f}{' ?' if latency.doubts else ''}", "on": latency.on}


def _plans(entry: Entry) -> dict[str, Any] | None:
    """The plans of an int8 artifact over their counted share of int8; None where there are not two to draw."""
    found = entry.artifact.manifest.get("quantization")
    if found is None:
        return None
    # to the right is dearer in every plot
    plots = plot_plans(
        found, lambda one: one["macs_float"], lambda share: f"{100 * share:g} %", "multiply-adds in float, counted"
    )
    return {"label": entry.label, "plot": plots[0], "count": len(found["points"])} if plots else None


def _error(value: float | None) -> str:
    return "no number" if value is None or not math.isfinite(value) else format_error(value)
