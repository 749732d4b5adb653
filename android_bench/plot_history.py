"""Latency over time, a chart a device, as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 860, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 28
# Okabe and Ito: told apart by colour-blind people too
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")


def plot_history(lines: Sequence[dict[str, Any]]) -> str:
    """The page. ``lines`` are those of ``read_history``; without a time or a date a line is told below the chart."""
    from jinja2 import Environment

    devices = list(dict.fromkeys(str(line["device"]) for line in lines))
    charts = [_chart(device, [line for line in lines if str(line["device"]) == device]) for device in devices]
    template = (Path(__file__).parent / "history.html.j2").read_text(encoding="utf-8")
    made = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    return made.render(charts=charts, width=WIDTH, height=HEIGHT, left=_LEFT, right=WIDTH - _RIGHT)


def _chart(device: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shown = [line for line in lines if _when(line) is not None and isinstance(line["p50"], (int, float))]
    times = [moment for line in shown if (moment := _when(line)) is not None]
    first, last = (min(times), max(times)) if times else (0.0, 0.0)
    budgets = sorted({1000 / line["min_fps"] for line in shown if line.get("min_fps")})
    top = 1.1 * max([_upper(line) for line in shown] + budgets, default=1.0)

    def x(moment: float) -> float:
        share = 0.5 if last == first else (moment - first) / (last - first)
        return round(_LEFT + 8 + share * (WIDTH - _LEFT - _RIGHT - 16), 1)

    def y(ms: float) -> float:
        return round(HEIGHT - _BOTTOM - ms / top * (HEIGHT - _TOP - _BOTTOM), 1)

    series: dict[str, list[dict[str, Any]]] = {}
    for line, moment in zip(shown, times, strict=True):
        low, high = line.get("ci95") or (line["p50"], line["p50"])
        told = f"{line['date']}: p50 {line['p50']:.2f} ms, 95 % of p90 {low:.2f} to {high:.2f} ms, {line['verdict']}"
        point = {"x": x(moment), "y": y(line["p50"]), "low": y(low), "high": y(high), "told": told}
        series.setdefault(_name(line), []).append(point | {"good": line["verdict"] in ("pass", "measured")})
    model = next((str(line["model"]) for line in lines if line.get("model") not in (None, "", "unknown")), "")
    return {
        "title": " ".join(filter(None, [model, device])),
        "series": [
            {"name": name, "color": COLORS[place % len(COLORS)], "points": points}
            for place, (name, points) in enumerate(series.items())
        ],
        "ticks": [{"y": y(top * step / 4), "words": f"{top * step / 4:.1f}"} for step in range(5)],
        "budgets": [{"y": y(ms), "words": f"{ms:.1f} ms"} for ms in budgets],
        "dates": [str(shown[0]["date"])[:10], str(shown[-1]["date"])[:10]] if shown else [],
        "untimed": [f"{line['date']}: {_name(line)}: {line['verdict']}" for line in lines if line not in shown],
    }


def _name(line: dict[str, Any]) -> str:
    title = str(line.get("title") or line.get("artifact") or "?")
    return f"{title}, {line['accelerator']} x{line.get('threads', '?')}" if line.get("accelerator") else title


def _upper(line: dict[str, Any]) -> float:
    interval = line.get("ci95")
    return float(max(line["p50"], interval[1] if interval else line["p50"]))


def _when(line: dict[str, Any]) -> float | None:
    """Seconds since 1970; None where the line does not tell."""
    try:
        return datetime.fromisoformat(str(line["date"])).timestamp()
    except ValueError:
        return None
