"""The part of report.html that an int8 artifact has: its budget, the plans tried, rankings, and the worst picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.report import plot_trade_off as plot
from mobile_matting_export.report.int8_summary import as_decibels, as_error, as_percent, summarize_int8
from mobile_matting_export.report.page import format_bytes, format_error
from mobile_matting_export.report.show_worst import show_worst

if TYPE_CHECKING:  # only named here; parity.py brings the whole toolchain
    from mobile_matting_export.parity import Case

MOST_BARS = 20

_MEASURES = {
    "mad_band": "MAD in the transition band",
    "mad": "MAD of the whole picture",
    "worst_band": "MAD in the band, worst picture",
    "max_abs": "largest error",
    "psnr": "PSNR of the worst picture",
}


def int8_section(manifest: Mapping[str, Any], worst: tuple[Case, np.ndarray], spec: ImageSpec) -> dict[str, Any]:
    """Values of ``int8_section.html.j2``; the same arguments give the same values.

    Args:
        manifest: schema mmexport.manifest/1, of an int8 artifact.
        worst: the held-out frame with the largest error, and the artifact's alpha there, 1x1xHxW float32.
        spec: how the picture became the network's input.
    """
    found = manifest["quantization"]
    kept = {layer["layer"] for layer in found["layers_float"]}
    size = sum(file["bytes"] for file in manifest["files"])
    return {
        "summary": summarize_int8(manifest),
        "found": found,
        "all_int8": "" if found["all_int8"] is None else _error(found["all_int8"]["mad_band"]),
        "bytes": size,
        "of_fp32": f"{size / found['fp32_bytes']:.2f}",
        "macs": as_percent(found["macs_int8"]),
        "gauges": [_gauge(name, limit, found["held_out"]) for name, limit in found["budget"].items()],
        "plots": _plots(found),
        "box": plot_box(),
        "rows": [_row(point) for point in _front(found["points"])],
        "others": [_row(point) for point in _behind(found["points"])],
        "layers": _bars(
            [(_layer_name(one), one["kind"], one["alone"], one["layer"] in kept) for one in found["layers"]]
        ),
        "blocks": _bars(
            [
                (one["module"] or "(the outermost module)", _count(one["layers"]), one["without"], False)
                for one in found["blocks"]
            ],
            # a lone block would be as long as what it leaves is little
            0.0 if found["all_int8"] is None else found["all_int8"]["mad_band"] or 0.0,
        ),
        "worst": show_worst(*worst, spec),
    }


def _gauge(name: str, limit: float, held: Mapping[str, Any]) -> dict[str, Any]:
    """How much of one limit is used, as ``Budget.use`` counts it: dB as ratios of root mean square errors."""
    value = held[name]
    told, most = (as_decibels, "at least ") if name == "psnr" else (as_error, "limit ")
    return {
        "name": _MEASURES[name],
        "value": told(value),
        "limit": most + told(limit),
        "percent": "100.0" if value is None else f"{100 * min(_use(name, value, limit), 1.0):.1f}",
    }


def _use(name: str, value: float, limit: float) -> float:
    return 10 ** ((limit - value) / 20) if name == "psnr" else value / limit


def _plots(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Error over layers in float, and over bytes; none where there is nothing to trade."""
    return [
        *plot_plans(found, lambda point: point["float"], lambda value: f"{value:g}", "layers in float"),
        *plot_plans(
            found,
            lambda point: point["bytes"],
            lambda value: format_bytes(round(value)),
            "size of the files",
            found["fp32_bytes"],
        ),
    ]


def plot_plans(
    found: Mapping[str, Any],
    cost: Callable[[Mapping[str, Any]], float],
    words: Callable[[float], str],
    axis: str,
    edge: float | None = None,
) -> list[dict[str, Any]]:
    """The plot of the plans tried, error over ``cost``, or none where there are not two to draw.

    Args:
        found: the manifest's ``quantization``.
        cost: of a plan, an entry of its ``points``.
        words: writes a cost.
        axis: what the cost is.
        edge: the largest cost that is drawn; None: that of the plans.
    """
    name, limit = _plotted(found["budget"])
    points = [point for point in found["points"] if point[name] is not None]
    if len(points) < 2:
        return []
    marks = [plot.Mark(cost(one), one[name], _holds(one), one["chosen"], _told(one)) for one in points]
    return [{"title": f"{_MEASURES[name]}, log scale", "axis": axis} | plot.plot_trade_off(marks, limit, words, edge)]


def plot_box() -> dict[str, int]:
    """The box of every plot and the frame within it, in the units of its SVG."""
    return {
        "width": plot.WIDTH,
        "height": plot.HEIGHT,
        "left": plot.LEFT,
        "right": plot.WIDTH - plot.RIGHT,
        "top": plot.TOP,
        "bottom": plot.HEIGHT - plot.BOTTOM,
    }


def _plotted(budget: Mapping[str, float]) -> tuple[str, float | None]:
    """The error that is drawn, with its limit: that of the band, or the budget's first where it does not limit it."""
    errors = [name for name in budget if name != "psnr"]
    name = "mad_band" if "mad_band" in budget or not errors else errors[0]
    return name, budget.get(name)


def _holds(point: Mapping[str, Any]) -> bool:
    return point["used"] is not None and point["used"] <= 1


def _told(point: Mapping[str, Any]) -> str:
    return (
        f"{point['float']} layers in float, {format_bytes(point['bytes'])}: MAD in the band "
        f"{as_error(point['mad_band'])}, worst picture {as_decibels(point['psnr'])}, "
        f"{as_percent(point['used'])} of the budget"
    )


def _front(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The plan taken, and those that no other beats in both cost and error; by layers in float."""
    return [one for one in sorted(points, key=_order) if one["chosen"] or not _is_beaten(one, points)]


def _behind(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [one for one in sorted(points, key=_order) if not one["chosen"] and _is_beaten(one, points)]


def _order(point: Mapping[str, Any]) -> tuple[int, float]:
    return point["float"], _used(point)


def _is_beaten(one: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        other["float"] <= one["float"] and _used(other) <= _used(one) and _order(other) != _order(one)
        for other in points
    )


def _used(point: Mapping[str, Any]) -> float:
    return math.inf if point["used"] is None else float(point["used"])


def _row(point: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "float": point["float"],
        "macs": as_percent(point["macs_float"]),
        "bytes": format_bytes(point["bytes"]),
        "band": _error(point["mad_band"]),
        "mad": _error(point["mad"]),
        "psnr": as_decibels(point["psnr"]),
        "largest": _error(point["max_abs"]),
        "used": as_percent(point["used"]),
        "holds": _holds(point),
        "chosen": point["chosen"],
    }


def _error(value: float | None) -> str:
    return "no number" if value is None else format_error(value)


def _bars(ranked: Sequence[tuple[str, str, Mapping[str, Any] | None, bool]], full: float = 0.0) -> dict[str, Any]:
    """Bars of the first ``MOST_BARS`` that could be measured: name, what it is, its score, whether it stays float.

    A bar of full length stands for the largest value, or for ``full`` where that is larger.
    """
    measured = [(name, what, score["mad_band"], kept) for name, what, score, kept in ranked if score is not None]
    shown = measured[:MOST_BARS]
    longest = max((value for _, _, value, _ in shown if value is not None), default=0.0)
    longest = max(longest, full) or 1.0
    return {
        "bars": [
            {
                "name": name,
                "what": what,
                "value": _error(value),
                "percent": f"{100 * (1.0 if value is None else value / longest):.1f}",
                "kept": kept,
            }
            for name, what, value, kept in shown
        ],
        "all": len(ranked),
        "kept_below": sum(kept for *_, kept in measured[MOST_BARS:]),
        "unmeasured": len(ranked) - len(measured),
    }


def _layer_name(layer: Mapping[str, Any]) -> str:
    """The file's name of a layer, after its module where the name does not tell it."""
    name, module = str(layer["layer"]), str(layer["module"])
    return name if not module or name.startswith(module) else f"{module}: {name}"


def _count(layers: int) -> str:
    return "1 layer" if layers == 1 else f"{layers} layers"
