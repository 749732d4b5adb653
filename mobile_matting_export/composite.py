"""Lay a person over another background: foreground colours, cut-outs, composites.

A half-transparent pixel of a photograph is a mixture of hair and old background. Blending that
mixture over a new background leaves fringes of the old one, so the foreground's own colour is
estimated first. Blending is done on the stored sRGB values, as Android's and iOS' canvases do, not
in linear light: what is seen here is what a phone shows.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageOps

from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import load_picture

# side lengths in pixels of the two box blurs, as published
_WIDE, _NARROW = 90, 6
# keeps 0 / 0 at 0 where no foreground (or background) lies within the blur
_EPSILON = 1e-5

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def cut_out(picture: Bytes, alpha: Floats) -> Bytes:
    """Cut the person out: foreground colours with the matte as transparency.

    Args:
        picture: uint8 H x W x 3, RGB, 0..255.
        alpha: float32 H x W, 0..1.

    Returns:
        uint8 H x W x 4, RGBA, not premultiplied.

    Raises:
        UsageError: the shapes do not fit.
    """
    opacity = np.rint(np.clip(alpha, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.dstack([estimate_foreground(picture, alpha), opacity])


def composite(picture: Bytes, alpha: Floats, background: Bytes) -> Bytes:
    """Lay the person over a background: ``alpha * foreground + (1 - alpha) * background``, in sRGB values.

    Args:
        picture: uint8 H x W x 3, RGB, 0..255.
        alpha: float32 H x W, 0..1.
        background: uint8 H x W x 3, RGB, 0..255.

    Returns:
        uint8 H x W x 3, RGB.

    Raises:
        UsageError: the shapes do not fit.
    """
    if background.shape != picture.shape:
        raise UsageError(f"A background of shape {background.shape} does not fit a picture of {picture.shape}.")
    weight = np.clip(alpha, 0.0, 1.0)[:, :, np.newaxis]
    below = background.astype(np.float32)
    return np.rint(below + weight * (estimate_foreground(picture, alpha) - below)).astype(np.uint8)


def estimate_foreground(picture: Bytes, alpha: Floats) -> Bytes:
    """Estimate the colours the person has without the background that shines through.

    Blur fusion, run twice: M. Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021,
    equations 4 to 7, with its blur sizes of 90 and 6 pixels.

    Args:
        picture: uint8 H x W x 3, RGB, 0..255.
        alpha: float32 H x W, 0..1.

    Returns:
        uint8 H x W x 3, RGB; the picture itself wherever alpha is 1.

    Raises:
        UsageError: the shapes do not fit.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or alpha.shape != picture.shape[:2]:
        raise UsageError(f"A matte of shape {alpha.shape} does not fit a picture of shape {picture.shape}.")
    weight = np.clip(alpha, 0.0, 1.0).astype(np.float32)
    foreground = np.empty_like(picture)
    # a channel at a time: photographs of phones are large, and three float maps of each are not needed at once
    for channel in range(3):
        image = picture[:, :, channel].astype(np.float32)
        fore, back = _fuse_blurs(image, image, image, weight, _WIDE)
        fore, _ = _fuse_blurs(image, fore, back, weight, _NARROW)
        foreground[:, :, channel] = np.rint(np.clip(fore, 0.0, 255.0))
    return foreground


def parse_background(text: str, shape: tuple[int, ...]) -> Bytes:
    """Make a background of a colour or of a picture file.

    Args:
        text: a colour (CSS name, ``#rrggbb``, ``rgb(r,g,b)``), else the path of a picture, which is
            scaled and cropped about its centre to cover the whole frame.
        shape: height and width in pixels; further entries are ignored.

    Returns:
        uint8 height x width x 3, RGB.

    Raises:
        UsageError: neither a colour nor a readable picture, or a transparent colour.
    """
    height, width = shape[:2]
    try:
        color = ImageColor.getrgb(text)
    except ValueError:
        return _cover(_load_background(text), height, width)
    if len(color) == 4 and color[3] != 255:
        raise UsageError(f"The background {text} is transparent: give an opaque colour such as {text[:7]}.")
    return np.broadcast_to(np.array(color[:3], np.uint8), (height, width, 3)).copy()


def _fuse_blurs(image: Floats, fore: Floats, back: Floats, alpha: Floats, side: int) -> tuple[Floats, Floats]:
    """One pass over one channel: smooth F and B within their own parts, then correct F by what I shows."""
    size = (side, side)
    weighted = cv2.blur(fore * alpha, size) / (cv2.blur(alpha, size) + _EPSILON)
    rest = 1.0 - alpha
    behind = cv2.blur(back * rest, size) / (cv2.blur(rest, size) + _EPSILON)
    return weighted + alpha * (image - alpha * weighted - rest * behind), behind


def _load_background(text: str) -> Bytes:
    path = Path(text)
    if not path.exists():
        raise UsageError(
            f"The background {text!r} is neither a colour nor a file: "
            "give a CSS colour name, #rrggbb, or the path of a picture."
        )
    return load_picture(path)


def _cover(picture: Bytes, height: int, width: int) -> Bytes:
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.LANCZOS))
