"""Drawn head-and-shoulders portraits with their exact alpha matte: no licence, no download, NumPy only.

Good for tests (layout, colour order, parity of two forms of one network, a smoke test of a training)
and as a last resort for calibration: brightness is near that of portrait photographs. Not good for any
statement about accuracy on photographs.

The picture is alpha * person + (1 - alpha) * background with the returned alpha; lens blur is applied
to alpha * person and alpha alike. Exposure, clipping, sensor noise and rounding to 8 bits come after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SMALLEST = 32
SKIN_TONES = ((0.91, 0.76, 0.67), (0.85, 0.68, 0.57), (0.74, 0.56, 0.44), (0.58, 0.41, 0.31), (0.40, 0.28, 0.21))
HAIR_TONES = ((0.09, 0.08, 0.07), (0.20, 0.14, 0.10), (0.36, 0.25, 0.17), (0.64, 0.52, 0.36), (0.60, 0.58, 0.56))
# plaster twice, haze
_WALLS = ((1.00, 0.98, 0.94), (1.00, 0.93, 0.82), (0.92, 0.96, 1.00))
# wood, foliage, sky, slate, brick
_OTHERS = ((0.86, 0.66, 0.48), (0.62, 0.74, 0.48), (0.66, 0.82, 1.00), (0.55, 0.62, 0.80), (0.78, 0.48, 0.42))
SURFACE_TONES = _WALLS + _OTHERS
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True)
class Plane:
    """The drawing plane: coordinates of each pixel, and the length of one pixel.

    ``x`` is 0 in the middle, ``y`` 0 at the top and 1 at the bottom; one unit is ``unit`` pixels.
    """

    x: Array
    y: Array
    unit: float

    def inside(self, distance: Array, softness_px: float = 0.35) -> Array:
        """Coverage of the shape whose signed distance (in units, negative inside) is given."""
        return 0.5 - 0.5 * np.tanh(distance * (0.5 * self.unit / softness_px))


@dataclass(frozen=True)
class Head:
    """Position and size of the head, in units, and the pixels' coordinates relative to it.

    ``across`` and ``down`` are 0 in the middle of the face and 1 at its outline.
    """

    cx: float
    cy: float
    rx: float
    ry: float
    across: Array
    down: Array


@dataclass(frozen=True)
class Hair:
    """Hair in front of the face and behind it, and single strands: coverage 0..1 each."""

    front: Array
    back: Array
    strands: Array


def make_portrait(seed: int, size: int | tuple[int, int] = 256) -> tuple[Array, Array]:
    """A drawn portrait and its matte; the same seed and size give the same picture.

    Args:
        seed: any non-negative number.
        size: side in pixels or (height, width), at least 32 each.

    Returns:
        The picture, uint8 H x W x 3 RGB, and alpha, float32 H x W in 0..1 over the whole person.

    Raises:
        ValueError: a side is shorter than 32 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST:
        raise ValueError(f"a drawn portrait of {height}x{width} pixels is too small: {SMALLEST} a side at least")
    rng = np.random.default_rng(seed)
    plane = _plane(height, width)
    head = _head(rng, plane)
    hair = _hair(rng, plane, head)
    neck, body = _neck(rng, plane, head), _body(rng, plane, head)
    face = plane.inside((np.hypot(head.across, head.down) - 1) * head.rx)
    empty = np.ones_like(face)
    for part in (face, neck, body, hair.front, hair.back, hair.strands):
        empty = empty * (1 - part)
    alpha = _snap(1 - empty)
    person = _paint_person(rng, plane, head, hair, face, neck, body)
    background = _paint_background(rng, plane)
    return _photograph(rng, plane, person, background, alpha)


# ---- shapes ----------------------------------------------------------------------------------


def _plane(height: int, width: int) -> Plane:
    unit = max(height, 1.1 * width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return Plane((columns + 0.5 - width / 2) / unit, (rows + 0.5) / unit + (1 - height / unit), unit)


def _head(rng: np.random.Generator, plane: Plane) -> Head:
    scale = rng.uniform(0.9, 1.35)
    cx, cy = rng.uniform(-0.07, 0.07), rng.uniform(0.36, 0.44)
    rx, ry = rng.uniform(0.108, 0.128) * scale, rng.uniform(0.15, 0.172) * scale
    tilt = rng.normal(0, 0.08)
    right, below = plane.x - cx, plane.y - cy
    across = (right * np.cos(tilt) + below * np.sin(tilt)) / rx
    down = (below * np.cos(tilt) - right * np.sin(tilt)) / ry
    # narrower towards the chin
    return Head(cx, cy, rx, ry, across / (1 - 0.2 * np.clip(down, 0, 1) ** 2), down)


def _neck(rng: np.random.Generator, plane: Plane, head: Head) -> Array:
    half = head.rx * rng.uniform(0.5, 0.66)
    below = np.clip((plane.y - head.cy) / head.ry - 1, -0.3, 1)
    return plane.inside(np.abs(plane.x - head.cx) - half * (1 + 0.6 * below**2)) * plane.inside(head.cy - plane.y)


def _body(rng: np.random.Generator, plane: Plane, head: Head) -> Array:
    half = head.rx * rng.uniform(2.1, 2.8)
    away = np.abs(plane.x - head.cx) / half
    slope = 0.1 * away ** rng.uniform(1.5, 2.3) + 0.9 * np.clip(away - 0.85, 0, None) ** 1.6
    trapezius = 0.04 * np.exp(-((away / 0.42) ** 2))
    top = head.cy + head.ry * rng.uniform(1.16, 1.34) + slope - trapezius + rng.normal(0, 0.08) * plane.x
    return plane.inside(top - plane.y) * plane.inside((away - 1.15) * half)


def _hair(rng: np.random.Generator, plane: Plane, head: Head) -> Hair:
    nothing = np.zeros_like(plane.x)
    style = rng.choice(["bald", "short", "medium", "long"], p=[0.1, 0.4, 0.22, 0.28])
    if style == "bald":
        return Hair(nothing, nothing, nothing)
    thick = rng.uniform(1.06, 1.14) if style == "short" else rng.uniform(1.12, 1.25)
    end = {"short": -0.1, "medium": rng.uniform(0.4, 0.9), "long": rng.uniform(1.2, 2.4)}[style]
    wave = thick * (1 + 0.04 * _noise(rng, plane.x.shape, 10, 3))
    hem = plane.inside((head.down - end - 0.1 * _noise(rng, plane.x.shape, 20, 2)) * head.ry, 1.0)
    cap = plane.inside((np.hypot(head.across, head.down) - wave) * head.rx, 0.6) * hem
    forehead = plane.inside((rng.uniform(-0.7, -0.5) + 0.3 * head.across**2 - head.down) * head.ry, 1.5)
    front = cap * (1 - forehead * plane.inside((np.abs(head.across) - 0.9) * head.rx, 1.5))
    back = nothing
    if style != "short":
        flare = wave * (1 + rng.uniform(0, 0.25) * np.clip(head.down, 0, 2))
        back = plane.inside((np.abs(head.across) - flare) * head.rx, 0.6) * hem * plane.inside(-head.down * head.ry)
    return Hair(front, back, _strands(rng, plane, head, thick))


def _strands(rng: np.random.Generator, plane: Plane, head: Head, thick: float) -> Array:
    """Opacity of single hairs: curves from the outline of the hair outwards, splatted bilinearly."""
    count, steps = int(rng.integers(25, 80)), int(0.1 * plane.unit) + 8
    angle = rng.uniform(np.pi * 0.9, np.pi * 2.1, count)
    length = rng.uniform(0.02, 0.08, count)[:, None]
    t = np.linspace(0, 1, steps)[None, :]
    turn = angle[:, None] + rng.normal(0, 0.35, (count, 1)) + rng.normal(0, 0.9, (count, 1)) * t
    x = head.cx + head.rx * thick * np.cos(angle)[:, None] * 0.99 + length * t * np.cos(turn)
    y = head.cy + head.ry * thick * np.sin(angle)[:, None] * 0.99 + length * t * (np.sin(turn) + 0.4 * t)
    opacity = rng.uniform(0.35, 0.95, (count, 1)) * (1 - 0.8 * t**2) * min(1.0, 0.5 + plane.unit / 700)
    height, width = plane.x.shape
    column = ((x - plane.x[0, 0]) * plane.unit).ravel()
    row = ((y - plane.y[0, 0]) * plane.unit).ravel()
    left, upper = np.floor(column).astype(int), np.floor(row).astype(int)
    result = np.zeros((height, width), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            share = (1 - np.abs(column - left - dx)) * (1 - np.abs(row - upper - dy)) * opacity.ravel()
            seen = (left + dx >= 0) & (left + dx < width) & (upper + dy >= 0) & (upper + dy < height)
            np.maximum.at(result, ((upper + dy)[seen], (left + dx)[seen]), share[seen].astype(np.float32))
    return result


# ---- colours ---------------------------------------------------------------------------------


def _paint_person(
    rng: np.random.Generator, plane: Plane, head: Head, hair: Hair, face: Array, neck: Array, body: Array
) -> Array:
    """The person's colours everywhere, H x W x 3; the matte cuts them out."""
    shape = plane.x.shape
    skin = np.array(SKIN_TONES)[rng.integers(len(SKIN_TONES))] * rng.normal(1, 0.04, 3)
    tone = np.array(HAIR_TONES)[rng.integers(len(HAIR_TONES))] * rng.normal(1, 0.08, 3)
    cloth = _surface(rng, 0.07, 0.92) * (1 + 0.16 * _noise(rng, shape, 7, 4)[..., None])
    if rng.random() < 0.4:
        cloth = cloth * (1 + 0.1 * np.sign(np.sin(plane.y * rng.uniform(60, 160)))[..., None])
    locks = np.sin(np.arctan2(head.across, head.down + 0.9) * rng.uniform(24, 40) + 5 * _noise(rng, shape, 5, 3))
    hair_colour = tone * (1 + (0.15 * locks + 0.3 * _noise(rng, shape, 30, 3))[..., None])
    skin_colour = skin * (1 + 0.05 * _noise(rng, shape, 10, 3)[..., None])
    colour = _over(hair_colour, skin_colour * 0.86, neck)
    colour = _over(colour, cloth, body)
    colour = _over(colour, skin_colour, face)
    colour = _paint_features(rng, head, colour, skin, tone)
    colour = _over(colour, hair_colour, hair.front)
    angle, amount = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.38)
    light = np.clip(np.cos(angle) * head.across + 0.6 * np.sin(angle) * head.down, -1.3, 1.3)
    return np.clip(colour * (1 + amount * light)[..., None], 0, 1)


def _paint_features(rng: np.random.Generator, head: Head, colour: Array, skin: Array, hair: Array) -> Array:
    """Eyes, brows, nose and mouth."""
    turn = rng.normal(0, 0.1)

    def spot(across: float, down: float, width: float, height: float) -> Array:
        distance = np.hypot((head.across - across) / width, (head.down - down) / height)
        return 0.5 - 0.5 * np.tanh((distance - 1) * 4)

    for side in (-0.4, 0.4):
        colour = _over(colour, skin * 0.8, 0.7 * spot(side + turn, -0.03, 0.26, 0.105))
        colour = _over(colour, np.array((0.86, 0.84, 0.82)), spot(side + turn, -0.03, 0.18, 0.055))
        colour = _over(colour, np.array((0.17, 0.13, 0.11)), spot(side + 1.3 * turn, -0.03, 0.085, 0.06))
        colour = _over(colour, hair * 0.75, 0.85 * spot(side + turn, -0.19, 0.25, 0.03))
    colour = _over(colour, skin * 0.74, 0.5 * spot(1.2 * turn + 0.07, 0.16, 0.06, 0.2))
    colour = _over(colour, skin * 0.58, 0.7 * spot(1.2 * turn, 0.33, 0.13, 0.025))
    return _over(colour, skin * (0.8, 0.58, 0.57), 0.85 * spot(turn, 0.56, 0.3, rng.uniform(0.04, 0.07)))


def _paint_background(rng: np.random.Generator, plane: Plane) -> Array:
    """A muted gradient with texture and a few shapes, in or out of focus, H x W x 3."""
    shape = plane.x.shape
    base, other = _surface(rng, 0.18, 0.97), _surface(rng, 0.1, 1.0)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * plane.x + np.sin(angle) * (plane.y - 0.5)
    colour = _over(np.broadcast_to(base, (*shape, 3)), 0.5 * (base + other), np.clip(ramp + 0.5, 0, 1))
    focus = rng.choice([0.5, 1.5, 6.0])
    for _ in range(rng.integers(2, 10)):  # windows, lamps, foliage
        x, y, a, b = plane.x - rng.uniform(-0.6, 0.6), plane.y - rng.uniform(0, 1), *rng.uniform(0.03, 0.3, 2)
        box = np.maximum(np.abs(x) - a, np.abs(y) - b)
        outline = box if rng.random() < 0.55 else np.hypot(x, y) - a
        tint = 0.45 * base + 0.55 * _surface(rng, 0.05, 1.0)
        colour = _over(colour, tint, rng.uniform(0.4, 1) * plane.inside(outline, focus))
    texture = _noise(rng, shape, int(rng.integers(4, 14)), 2 if focus > 2 else 5)
    return np.clip(colour * (1 + rng.uniform(0.05, 0.3) * texture[..., None]), 0, 1)


def _photograph(
    rng: np.random.Generator, plane: Plane, person: Array, background: Array, alpha: Array
) -> tuple[Array, Array]:
    """Composite, lens blur of person and matte together, exposure, noise, 8 bits."""
    cut_out = np.concatenate((person * alpha[..., None], alpha[..., None]), axis=-1)
    if rng.random() < 0.6:
        cut_out = _soften(cut_out)
    alpha = _snap(cut_out[..., 3])
    picture = cut_out[..., :3] + (1 - alpha)[..., None] * background
    vignette = 1 - rng.uniform(0, 0.4) * (plane.x**2 + (plane.y - 0.5) ** 2)
    warmth = 1 + np.array((1.0, 0.0, -1.0)) * rng.normal(0, 0.035)
    picture = picture * (rng.uniform(0.9, 1.35) * vignette)[..., None] * warmth
    if rng.random() < 0.1:  # a black-and-white photo
        picture = np.broadcast_to((picture @ LUMA)[..., None], picture.shape)
    picture = np.clip(picture, 0, 1)
    picture = picture + rng.standard_normal(picture.shape) * rng.choice([0.004, 0.008, 0.02])
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8), alpha.astype(np.float32)


# ---- means -----------------------------------------------------------------------------------


def _over(below: Array, colour: Array, coverage: Array) -> Array:
    return below + coverage[..., None] * (colour - below)


def _snap(alpha: Array) -> Array:
    """Nearly empty and nearly full become exactly so."""
    return np.where(alpha < 0.004, 0.0, np.where(alpha > 0.996, 1.0, alpha))


def _surface(rng: np.random.Generator, darkest: float, lightest: float) -> Array:
    tone = np.array(SURFACE_TONES)[rng.integers(len(SURFACE_TONES))] * rng.normal(1, 0.06, 3)
    return np.clip(tone / tone.max() * rng.uniform(darkest, lightest), 0, 1)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int, octaves: int) -> Array:
    """Smooth 1/f-like noise, roughly -1..1: bilinearly enlarged random grids."""
    result, weight = np.zeros(shape, np.float32), 0.6
    for _ in range(octaves):
        grid = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
        rows, columns = (np.linspace(0, cells - 1e-3, n, dtype=np.float32) for n in shape)
        i, j = rows.astype(int)[:, None], columns.astype(int)[None, :]
        s, t = rows[:, None] - i, columns[None, :] - j
        upper = grid[i, j] * (1 - t) + grid[i, j + 1] * t
        lower = grid[i + 1, j] * (1 - t) + grid[i + 1, j + 1] * t
        result += weight * (upper * (1 - s) + lower * s)
        cells, weight = cells * 2, weight * 0.55
    return result


def _soften(layers: Array) -> Array:
    """A small lens blur: weights 1 2 1 along both axes, edges repeated."""
    for axis in (0, 1):
        padding = [(1, 1) if a == axis else (0, 0) for a in range(layers.ndim)]
        wide = np.moveaxis(np.pad(layers, padding, mode="edge"), axis, 0)
        layers = np.moveaxis(0.25 * wide[:-2] + 0.5 * wide[1:-1] + 0.25 * wide[2:], 0, axis)
    return layers
