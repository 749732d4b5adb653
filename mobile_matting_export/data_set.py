"""Folders of pictures with their true mattes: ``image/X.jpg`` beside ``alpha/X.png``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import PICTURE_SUFFIXES, UNDECODABLE, list_pictures

READINGS = ("auto", "stills", "sequence")
"""How a folder's pictures are read; ``auto`` takes consecutively numbered pictures of one size as frames."""

# fewer than so many numbered pictures are more likely a hand-picked few than a film
_FEWEST_FRAMES = 5


@dataclass(frozen=True)
class Frame:
    """A picture and its true matte, both as files."""

    name: str
    picture: Path
    truth: Path


@dataclass(frozen=True)
class Clip:
    """The frames of one ``image/`` folder in order; ``consecutive`` ones are a film, others stand alone."""

    name: str
    frames: tuple[Frame, ...]
    consecutive: bool


def read_data_set(folder: Path, reading: str = "auto") -> tuple[Clip, ...]:
    """Find the clips of a data set: its own ``image/`` and ``alpha/``, or those of every folder in it.

    Args:
        folder: the data set.
        reading: one of ``READINGS``.

    Raises:
        UsageError: no such folder, no pictures, or pictures without a matte (named).
    """
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise UsageError(f"cannot evaluate on {folder}: {what}; name a folder that holds image/ and alpha/")
    places = [folder] if (folder / "image").is_dir() else sorted(p.parent for p in folder.glob("*/image") if p.is_dir())
    if not places:
        raise UsageError(
            f"{folder} holds no data set: pictures are expected as {folder / 'image' / 'X.jpg'}, their true mattes as "
            f"{folder / 'alpha' / 'X.png'}"
        )
    return tuple(_read_clip(place, reading) for place in places)


def load_truth(path: Path) -> npt.NDArray[np.float64]:
    """A true matte as float64 H x W in [0, 1], of a grey picture with 8 or 16 bits.

    Raises:
        UsageError: unreadable, a colour picture, one with transparency, or of an unusual kind.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith("I;16"):
                return np.asarray(image).astype(np.float64) / 65535
            mode, see_through = image.mode, image.has_transparency_data
            grey = np.asarray(image.convert("RGB"))
    except UNDECODABLE as error:
        raise UsageError(f"cannot read the matte {path}: {error}; mattes are grey PNG files") from error
    if see_through or mode not in ("1", "L", "P", "RGB"):
        what = "has transparency" if see_through else f"is of Pillow's mode {mode}"
        raise UsageError(f"the matte {path} {what}; save it as a grey PNG, 0 background, 255 foreground")
    if (grey != grey[..., :1]).any():
        raise UsageError(f"the matte {path} is a colour picture; a matte is grey, 0 background, 255 foreground")
    return grey[..., 0].astype(np.float64) / 255


def _read_clip(place: Path, reading: str) -> Clip:
    mattes = _by_stem(place / "alpha")
    pictures = sorted(list_pictures(place / "image"), key=_frame_order)
    for before, after in itertools.pairwise(pictures):
        if before.stem == after.stem:
            raise UsageError(f"{before} and {after.name} have one name, and so one matte: rename one of them")
    lacking = [path.name for path in pictures if path.stem not in mattes]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        expected = place / "alpha" / f"{Path(lacking[0]).stem}.png"
        raise UsageError(
            f"{place / 'alpha'} lacks the matte of {lacking[0]}{more}: expected {expected}, grey, 0 background, "
            "255 person"
        )
    frames = tuple(Frame(path.stem, path, mattes[path.stem]) for path in pictures)
    consecutive = reading == "sequence" or (reading == "auto" and _is_film(frames))
    if consecutive and len(frames) < 2:
        raise UsageError(f"{place} holds one picture, which is no film: evaluate it with --read-as stills")
    return Clip(place.name, frames, consecutive)


def _frame_order(path: Path) -> tuple[str, int, str]:
    """By the number at a name's end, so that 2 comes before 10."""
    found = re.fullmatch(r"(.*?)(\d*)", path.stem)
    assert found is not None  # both parts may be empty
    return found[1], int(found[2] or -1), path.name


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES]
    return {path.stem: path for path in found if not path.name.startswith(".")}


def _is_film(frames: Sequence[Frame]) -> bool:
    """Numbered without a gap, and all of one size."""
    numbers = [re.search(r"(\d+)$", frame.name) for frame in frames]
    if len(frames) < _FEWEST_FRAMES or not all(numbers):
        return False
    counted = [int(found[1]) for found in numbers if found]
    if counted != list(range(counted[0], counted[0] + len(counted))):
        return False
    return len({_size_of(frame.picture) for frame in frames}) == 1


def _size_of(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:  # the header only
            return image.size
    except UNDECODABLE as error:
        raise UsageError(f"cannot read the picture {path}: {error}; copy it again, or take it out") from error
