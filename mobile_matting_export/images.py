"""Pictures to network inputs and mattes back to pictures, the same numbers every time.

One path for calibration, verification and matting alike: a file becomes RGB bytes
(``load_picture``), bytes become the network's input by its ``ImageSpec`` (``to_input``), and the
network's alpha returns to the picture's own size (``from_output``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:  # spec.py imports torch, which reading a picture does not need
    from mobile_matting_export.networks.spec import ImageSpec

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# what Pillow's decoders let through on damaged files, besides OSError
UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def load_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture file as it is meant to be seen.

    The EXIF orientation is applied, transparent parts are laid over white, grey and CMYK become
    RGB, 16-bit grey is scaled to 8 bits, the first frame of an animation is taken. Colour profiles
    are not applied, as they are not in the data the networks were trained on.

    Returns:
        uint8 H x W x 3, RGB, 0..255.

    Raises:
        UsageError: the file is missing, a folder, unreadable, damaged, or not a picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError as error:
        raise UsageError(f"cannot read the picture {path}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise UsageError(f"cannot read the picture {path}: it is a folder; name a file in it") from error
    except PermissionError as error:
        raise UsageError(f"cannot read the picture {path}: permission denied") from error
    except UnidentifiedImageError as error:
        raise UsageError(
            f"cannot read the picture {path}: it is in no known picture format; convert it to JPEG or PNG"
        ) from error
    except UNDECODABLE as error:
        raise UsageError(
            f"cannot read the picture {path}: {error}; it may be damaged or of an unusual kind: "
            "copy it again, or save it anew as an 8-bit JPEG or PNG"
        ) from error


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder in a fixed order, hidden files left out.

    A folder without pictures of its own may be a matting data set: then those of its ``image/``
    are taken, or of every ``*/image/`` below it (``alpha/`` beside them holds mattes, not pictures).

    Raises:
        UsageError: the folder is missing, unreadable, not a folder, or holds no picture.
    """
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise UsageError(f"cannot list pictures in {folder}: {what}; name a folder with pictures")
    try:
        for places in ([folder], [folder / "image"], sorted(folder.glob("*/image"))):
            found = [sorted(_pictures_in(place), key=lambda path: path.name) for place in places if place.is_dir()]
            if any(found):
                return [path for pictures in found for path in pictures]
    except PermissionError as error:
        raise UsageError(f"cannot list pictures in {folder}: permission denied") from error
    known = " ".join(PICTURE_SUFFIXES)
    raise UsageError(f"the folder {folder} holds no pictures; files ending in {known} are taken")


def _pictures_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _looks_like_picture(path)]


def sample_pictures() -> list[Path]:
    """List the portraits that come with the package; ``samples/README.md`` says whence they are."""
    return list_pictures(Path(__file__).parent / "samples")


def to_input(picture: npt.NDArray[np.uint8], image_spec: ImageSpec, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Make a network's image input of a picture.

    An axis that shrinks is averaged over pixel areas, one that grows is interpolated linearly
    (half-pixel centres); the result is rounded to 8 bits, as a camera application's bitmap is.

    Args:
        picture: uint8 H x W x 3, RGB, 0..255, of any size.
        image_spec: colour order, normalization, and how to reach ``size``.
        size: height and width of the input, in pixels.

    Returns:
        float32 1 x 3 x ``size``, ``(pixel - mean) * scale``, channels in the specified order.

    Raises:
        UsageError: ``picture`` is not uint8 H x W x 3 with at least one pixel.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise UsageError(
            f"a picture must be uint8 of shape H x W x 3, not {picture.dtype} of shape {picture.shape}; "
            "read it with load_picture"
        )
    place = _placement(picture.shape[:2], image_spec, size)
    canvas = np.full((*size, 3), image_spec.fill, np.uint8)
    canvas[place.rows, place.columns] = _resize_picture(picture, place.height, place.width)
    if image_spec.color == "BGR":
        canvas = canvas[:, :, ::-1]
    mean = np.array(image_spec.mean, np.float32)
    scale = np.array(image_spec.scale, np.float32)
    normalized = (canvas.astype(np.float32) - mean) * scale
    return np.ascontiguousarray(normalized.transpose(2, 0, 1)[np.newaxis])


def from_output(
    alpha: npt.NDArray[np.float32], image_spec: ImageSpec, picture_shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Bring a matte back to the size of the picture it was made from.

    Args:
        alpha: float32 1 x 1 x H x W, the matte at the size of the network's input.
        image_spec: the specification that ``to_input`` was given; bars of a letterbox are cut off.
        picture_shape: height and width of the picture, in pixels; further entries are ignored.

    Returns:
        float32 height x width, bilinear with half-pixel centres, clamped to [0, 1].

    Raises:
        UsageError: ``alpha`` is not of shape 1 x 1 x H x W.
    """
    if alpha.ndim != 4 or alpha.shape[:2] != (1, 1) or alpha.size == 0:
        raise UsageError(f"a matte must be of shape 1 x 1 x H x W, not {alpha.shape}")
    height, width = picture_shape[:2]
    place = _placement((height, width), image_spec, alpha.shape[2:])
    inner = np.ascontiguousarray(alpha[0, 0, place.rows, place.columns], np.float32)
    resized = cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(resized, 0.0, 1.0).astype(np.float32, copy=False)


def content_box(picture_size: tuple[int, ...], image_spec: ImageSpec, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a network's input of ``size`` that hold the picture; the rest are letterbox bars."""
    place = _placement(picture_size, image_spec, size)
    return place.rows, place.columns


@dataclass(frozen=True)
class _Placement:
    """Where the resized picture lies in the network's input, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


def _placement(picture_size: tuple[int, ...], image_spec: ImageSpec, size: tuple[int, ...]) -> _Placement:
    height, width = size
    if image_spec.resize == "stretch":
        return _Placement(0, 0, height, width)
    ratio = min(height / picture_size[0], width / picture_size[1])
    # at least one pixel is left of the most extreme panorama; an odd bar is smaller above and left
    inner_height = min(height, max(1, int(picture_size[0] * ratio + 0.5)))
    inner_width = min(width, max(1, int(picture_size[1] * ratio + 0.5)))
    return _Placement((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)


def _resize_picture(picture: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    # one axis may shrink while the other grows; INTER_AREA averages only where nothing grows
    shrunk_size = (min(width, picture.shape[1]), min(height, picture.shape[0]))
    shrunk = cv2.resize(np.ascontiguousarray(picture), shrunk_size, interpolation=cv2.INTER_AREA)
    if shrunk_size == (width, height):
        return np.asarray(shrunk, np.uint8)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255 when it converts; scaling keeps the picture
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel are not supported")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _looks_like_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
