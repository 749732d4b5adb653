"""Render a self-contained HTML page: templates, the shared style, pictures inlined as PNG."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

THUMBNAIL = 192
"""Longest side of an inlined picture, in pixels."""

# float32 summed in another order differs by as much
_SMALLEST_ERROR = 1e-6


def render_page(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this folder; the same values give the same text."""
    environment = Environment(
        loader=PackageLoader("mobile_matting_export", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"bytes": format_bytes, "count": format_count, "error": format_error}
    return environment.get_template(template).render(values)


def to_data_uri(pixels: np.ndarray) -> str:
    """A PNG data URI of uint8 H x W (grey) or H x W x 3 (RGB)."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def to_grey(values: np.ndarray) -> np.ndarray:
    """uint8 H x W of floats in [0, 1]; what lies outside is clipped, NaN becomes white."""
    return np.rint(np.nan_to_num(np.clip(values, 0.0, 1.0), nan=1.0) * 255.0).astype(np.uint8)


def shrink(pixels: np.ndarray, longest: int = THUMBNAIL) -> np.ndarray:
    """The picture or matte with its longest side at most ``longest``, averaged over pixel areas."""
    height, width = fit_within(pixels.shape, longest)
    if (height, width) == pixels.shape[:2]:
        return pixels
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def fit_within(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Height and width of the same aspect whose longest side is at most ``longest``, never enlarged."""
    height, width = shape[:2]
    ratio = min(1.0, longest / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def format_bytes(number: int) -> str:
    """``950 B``, ``12.3 kB``, ``1.53 MB``."""
    return _scale(number, (("MB", 1_000_000), ("kB", 1_000)), "B")


def format_count(number: int) -> str:
    """``950``, ``12.3 k``, ``1.53 M``, ``2.10 G``."""
    return _scale(number, (("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)), "")


def format_error(value: float) -> str:
    """Three digits without an exponent, so that columns compare: ``0.0123``, ``0.0000041``, ``< 0.000001``."""
    if 0 < value < _SMALLEST_ERROR:
        return f"< {np.format_float_positional(_SMALLEST_ERROR)}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def write_page(path: Path, text: str) -> None:
    """Write the page as UTF-8 with plain newlines on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def _scale(number: int, units: tuple[tuple[str, int], ...], base: str) -> str:
    """Three digits and the largest unit that fits."""
    for unit, size in units:
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{number} {base}".strip()
