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
    return blend(estimate_foreground(picture, alpha), alpha, background)


def add_matte(foreground: Bytes, alpha: Floats) -> Bytes:
    """Cut the person out: foreground colours (``estimate_foreground``) with the matte as transparency.

    Args:
        foreground: uint8 H x W x 3, RGB, 0..255.
        alpha: float32 H x W, 0..1.

    Returns:
        uint8 H x W x 4, RGBA, not premultiplied.
    """
    opacity = np.rint(np.clip(alpha, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.dstack([foreground, opacity])


def blend(foreground: Bytes, alpha: Floats, background: Bytes) -> Bytes:
    """Lay foreground colours (``estimate_foreground``) over a background; all of one height and width.

    Raises:
        UsageError: the shapes do not fit.
    """
    if background.shape != foreground.shape:
        raise UsageError(f"a background of shape {background.shape} does not fit a picture of shape {foreground.shape}")
    weight = np.clip(alpha, 0.0, 1.0)[:, :, np.newaxis]
    below = background.astype(np.float32)
    return np.rint(below + weight * (foreground - below)).astype(np.uint8)


def estimate_foreground(picture: Bytes, alpha: Floats) -> Bytes:
    """Estimate the colours the person has without the background that shines through.

    Blur fusion, run twice: M. Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021,
    with its blur sizes of 90 and 6 pixels.

    Args:
        picture: uint8 H x W x 3, RGB, 0..255.
        alpha: float32 H x W, 0..1.

    Returns:
        uint8 H x W x 3, RGB; the picture itself wherever alpha is 1.

    Raises:
        UsageError: the shapes do not fit.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or alpha.shape != picture.shape[:2]:
        raise UsageError(f"a matte of shape {alpha.shape} does not fit a picture of shape {picture.shape}")
    weight = np.clip(alpha, 0.0, 1.0).astype(np.float32)
    wide, narrow = _Blur(weight, _WIDE), _Blur(weight, _NARROW)
    foreground = np.empty_like(picture)
    # a channel at a time: pictures of phones are large, and float maps of all three are not needed at once
    for channel in range(3):
        image = picture[:, :, channel].astype(np.float32)
        fore, back = wide.fuse(image, image, image)
        fore, _ = narrow.fuse(image, fore, back)
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
        opaque = "#{:02x}{:02x}{:02x}".format(*color)
        raise UsageError(f"the background {text} is transparent: give an opaque colour such as {opaque}")
    return np.broadcast_to(np.array(color[:3], np.uint8), (height, width, 3)).copy()


class _Blur:
    """One pass of blur fusion; what depends on the matte alone is computed once for all channels."""

    def __init__(self, alpha: Floats, side: int) -> None:
        self.size = (side, side)
        self.alpha, self.rest = alpha, 1.0 - alpha
        self.alpha_around = cv2.blur(self.alpha, self.size) + _EPSILON
        self.rest_around = cv2.blur(self.rest, self.size) + _EPSILON

    def fuse(self, image: Floats, fore: Floats, back: Floats) -> tuple[Floats, Floats]:
        """Smooth F and B within their own parts, then correct F by what the image shows."""
        smooth = cv2.blur(fore * self.alpha, self.size) / self.alpha_around
        behind = cv2.blur(back * self.rest, self.size) / self.rest_around
        return smooth + self.alpha * (image - self.alpha * smooth - self.rest * behind), behind


def _load_background(text: str) -> Bytes:
    path = Path(text)
    if not path.exists():
        raise UsageError(
            f"the background {text!r} is neither a colour nor a file: "
            "give a CSS colour name, #rrggbb, or the path of a picture"
        )
    return load_picture(path)


def _cover(picture: Bytes, height: int, width: int) -> Bytes:
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.LANCZOS))
