"""Where artifacts lie in a plot of error over latency or size, each with its name beside it: numbers for an SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_matting_export.report.plot_trade_off import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    even_ticks,
    log_ticks,
    make_axes,
)

# below it lies the rounding of float32, which is no loss that anybody chose
_LEAST_ERROR = 1e-6
_RADIUS = 5
# of the words in the plot, at 12 pixels: as wide fonts have it, so that neighbours never touch
_LETTER, _LINE = 7.4, 14
_FRAME_RIGHT = WIDTH - RIGHT
# where a name is tried, the nearest first
_LINES_AWAY = (0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6, -7, -8)


@dataclass(frozen=True)
class Spot:
    """The mark of one artifact in a plot.

    Attributes:
        x: its cost.
        x_end: the end of its line: a higher percentile of a cost that varies, else ``x``.
        y: its error.
        label: the name beside it.
        kind: what colours it.
        sure: whether the cost can be defended.
        tooltip: its numbers in words.
    """

    x: float
    x_end: float
    y: float
    label: str
    kind: str
    sure: bool
    tooltip: str


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def plot_artifacts(spots: Sequence[Spot], errors: Sequence[float], words: Callable[[float], str]) -> dict[str, Any]:
    """Geometry of one plot, x from 0, y logarithmic; names are moved until none lies on another.

    Args:
        spots: the artifacts, at least one.
        errors: what the y axis has to hold: those of ``spots``, and of plots beside this one.
        words: writes a value of the x axis.
    """
    right = max(spot.x_end for spot in spots) * 1.08 or 1.0
    top = max(*errors, 10 * _LEAST_ERROR) * 2
    bottom = max(min(errors) / 2, _LEAST_ERROR)
    across, up = make_axes(right, bottom, top)
    marks = [{"x": across(one.x), "end": across(one.x_end), "y": up(one.y)} for one in spots]
    taken = [_Box(m["x"] - _RADIUS, m["y"] - _RADIUS, m["end"] + 2, m["y"] + _RADIUS) for m in marks]
    taken.append(_Box(LEFT, HEIGHT - BOTTOM - 1, _FRAME_RIGHT, HEIGHT - BOTTOM + 1))  # the axis is no place for words
    names: list[dict[str, Any]] = [{}] * len(spots)
    labels = [_shorten(one.label) for one in spots]
    # from the right: a name stands right of its mark where there is room, so those further left find theirs left
    for index in sorted(range(len(spots)), key=lambda index: -spots[index].x):
        names[index], box = _place(labels[index], marks[index], taken)
        taken.append(box)
    return {
        "marks": [
            mark | {"name": name, "label": label, "kind": spot.kind, "sure": spot.sure, "tooltip": spot.tooltip}
            for spot, mark, name, label in zip(spots, marks, names, labels, strict=True)
        ],
        "across": [{"x": across(value), "words": words(value)} for value in even_ticks(right)],
        "up": [{"y": up(value), "words": f"{value:g}"} for value in log_ticks(bottom, top)],
        "cut": any(spot.y < bottom for spot in spots),
    }


def _shorten(label: str) -> str:
    """As much of it as the frame holds: its end, where a folder's name stands; the tooltip has the whole."""
    most = int((_FRAME_RIGHT - LEFT) / _LETTER)
    return label if len(label) <= most else f"…{label[1 - most :]}"


def _place(label: str, mark: dict[str, float], taken: Sequence[_Box]) -> tuple[dict[str, Any], _Box]:
    """Beside the mark, or above or below it, as near as is free and within the frame; ``far`` names need a line to it.

    Where nothing is free it stands over what is there, but within the frame.
    """
    width = _LETTER * len(label)
    x, beside = mark["x"], max(mark["end"], mark["x"] + _RADIUS) + 5
    first = None
    for lines in _LINES_AWAY:
        middle = mark["y"] + lines * _LINE
        near = (beside, x - _RADIUS - 5) if lines == 0 else (x - _RADIUS, x + _RADIUS)
        for side, left in (("start", near[0]), ("end", near[1] - width), ("start", _FRAME_RIGHT - width)):
            box = _Box(left, middle - _LINE / 2, left + width, middle + _LINE / 2)
            name = {
                "x": round(left if side == "start" else left + width, 1),
                "y": round(middle + 4, 1),
                "side": side,
                "far": abs(lines) > 1,
            }
            within = box.left >= LEFT and box.right <= _FRAME_RIGHT and box.top >= 0 and middle <= HEIGHT - BOTTOM
            if not within:
                continue
            if not any(box.meets(other) for other in taken):
                return name, box
            first = first or (name, box)
    assert first is not None
    return first
