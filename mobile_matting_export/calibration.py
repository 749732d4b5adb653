"""The pictures that int8 is made with: some to choose ranges by, others to judge the result by.

Every format gets the same tensors in the same order, made as those of verification are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import list_pictures, load_picture, sample_pictures
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.parity import Case, make_frames, run_frame
from mobile_matting_export.procedural_portraits import SMALLEST, make_portrait
from mobile_matting_export.read_calibration_arrays import read_calibration_arrays

FEWEST = 8
"""Half of them are held out; of fewer, neither half would say anything."""

ENOUGH = 32
"""Fewer are warned of."""

MOST = 128
"""Of more, so many are taken: a search among layers runs all of them, many times."""

_MOSTLY_DRAWN = (
    f"calibrated with drawn portraits but for two photographs: a folder of {ENOUGH} to {MOST} real pictures gives "
    "better ranges; name it with --calibration"
)
_HOLDOUT = 4
# frames of each picture, for a network with a hidden state
_FILM = 8
_NAMED = 5
# networks that see more are few, and drawing would take longer than they do
_DRAWN_SIDE = 320
# not those that verification draws
_FIRST_SEED = 100
# a report shows no more of a picture, and 128 photographs of a phone would fill the memory
_KEPT_SIDE = 640

_Frames = list[tuple[Case, ...]]
"""The frames of each picture."""


@dataclass(frozen=True)
class Calibration:
    """Frames for ranges, and frames of other pictures, a third of all and four at least, that no range was chosen by.

    ``Case.picture`` is at most 640 pixels a side here. ``source`` says for people where the pictures are from,
    ``warning`` what is doubtful about them. ``sha256`` is that of all names and input tensors, in order.
    """

    ranging: tuple[Case, ...]
    holdout: tuple[Case, ...]
    source: str
    sha256: str
    warning: str | None


def load_calibration(network: LoadedNetwork, source: Path | None) -> Calibration:
    """Make the calibration frames of a network; the same source gives the same frames.

    Pictures are ordered by name; evenly chosen ones are taken where there are more than ``MOST``, and of these every
    third is held out. A network whose alpha is fed back gets every picture twice, one with a hidden state eight times,
    each frame fed the last; see ``parity.make_frames``.

    Args:
        network: as it will be converted, its normalization baked in or not.
        source: a folder of pictures; a text file (.txt) that names one picture on each line, relative to itself, lines
            that begin with # left out; or arrays (.npz), see ``read_calibration_arrays``. None: the bundled
            photographs and drawn portraits, ``ENOUGH`` together.

    Raises:
        UsageError: there is no such source or it is of no such kind; fewer than ``FEWEST`` pictures, pictures that
            cannot be read or are under 32 pixels a side, or arrays that are not the network's inputs.
    """
    if source is None:
        return _split(_bundled(network), "bundled and drawn portraits", _MOSTLY_DRAWN)
    if source.suffix.lower() == ".npz" and source.is_file():
        arrays = read_calibration_arrays(network, source)
        found = len(arrays["image"])
        chosen = _choose(found, source)
        frames: _Frames = [(_frame_of(network, f"{source.stem}-{number:04d}", arrays, number),) for number in chosen]
    else:
        paths = _list(source)
        found = len(paths)
        frames = _read(network, [paths[number] for number in _choose(found, source)])
    few = f"only {found} pictures to calibrate with: {ENOUGH} to {MOST} are better"
    # its name only: a report that is handed on tells nothing of this machine's folders
    where = f"{source.name}, evenly chosen of {found}" if found > MOST else source.name
    return _split(frames, where, few if found < ENOUGH else None)


def _list(source: Path) -> list[Path]:
    """Pictures of a folder or a list, by name; one that a list has twice is taken once."""
    if source.is_dir():
        return sorted(list_pictures(source), key=lambda path: path.name)
    if not source.exists():
        raise UsageError(f"cannot calibrate with {source}: there is no such file or folder; check the path")
    if source.suffix.lower() != ".txt":
        raise UsageError(
            f"cannot calibrate with {source}: it is neither a folder of pictures, nor a list of them (.txt), nor "
            "arrays (.npz)"
        )
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the list {source}: {error}; write it as text, one picture on each line"
        ) from None
    unique = {path.resolve(): path for path in (source.parent / line for line in lines if line and line[0] != "#")}
    return sorted(unique.values(), key=lambda path: path.name)


def _choose(count: int, source: Path) -> list[int]:
    """Numbers of the pictures that are taken, in order."""
    if count < FEWEST:
        raise UsageError(
            f"{source} has {count} {'picture' if count == 1 else 'pictures'}, too few to calibrate with: give at least "
            f"{FEWEST}, better {ENOUGH} to {MOST}, like those that the application will see"
        )
    taken = min(count, MOST)
    return [number * count // taken for number in range(taken)]


def _read(network: LoadedNetwork, paths: Sequence[Path]) -> _Frames:
    frames, refusals = [], []
    for path in paths:
        try:
            picture = load_picture(path)
            if min(picture.shape[:2]) < SMALLEST:
                size = f"{picture.shape[0]}x{picture.shape[1]}"
                raise UsageError(f"the picture {path} is only {size} pixels: take one of {SMALLEST} a side at least")
        except UsageError as error:
            refusals.append((path, error))
            continue
        if not refusals:
            frames.append(_frames_of(network, path.name, picture))
    if len(refusals) > 1:
        names = ", ".join(path.name for path, _ in refusals[:_NAMED]) + (", ..." if len(refusals) > _NAMED else "")
        raise UsageError(
            f"{len(refusals)} of {len(paths)} calibration pictures cannot be used ({names}); the first: "
            f"{refusals[0][1]}"
        )
    if refusals:
        raise refusals[0][1]
    return frames


def _bundled(network: LoadedNetwork) -> _Frames:
    pictures = [(path.name, load_picture(path)) for path in sample_pictures()]
    side = min(max(network.size), _DRAWN_SIDE)
    for number in range(ENOUGH - len(pictures)):
        pictures.append((f"drawn-{number:02d}", make_portrait(_FIRST_SEED + number, side)[0]))
    return [_frames_of(network, name, picture) for name, picture in sorted(pictures, key=lambda one: one[0])]


def _frames_of(network: LoadedNetwork, name: str, picture: np.ndarray) -> tuple[Case, ...]:
    kept = _reduced(picture)
    # a hidden state carries errors from frame to frame, an alpha that is fed back hardly does
    count = _FILM if len(network.outputs) > 1 else 2
    return tuple(replace(case, picture=kept) for case in make_frames(network, name, picture, count))


def _frame_of(network: LoadedNetwork, name: str, arrays: Mapping[str, np.ndarray], number: int) -> Case:
    """One frame of the arrays, with the picture that its image was made of."""
    inputs = {key: np.ascontiguousarray(values[number : number + 1]) for key, values in arrays.items()}
    spec = network.spec.image
    pixels = inputs["image"][0].transpose(1, 2, 0) / np.array(spec.scale) + np.array(spec.mean)
    picture = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if spec.color == "BGR":
        picture = picture[:, :, ::-1]
    results = run_frame(network, inputs)
    alpha = results.pop("alpha")
    return Case(name, picture, inputs, alpha, results)


def _split(frames: _Frames, source: str, warning: str | None) -> Calibration:
    """Hold out every third picture, and four where that is more."""
    held = max(len(frames) // 3, _HOLDOUT)
    places = {(number + 1) * len(frames) // held - 1 for number in range(held)}
    ranging = [case for number, of_one in enumerate(frames) if number not in places for case in of_one]
    holdout = [case for number in sorted(places) for case in frames[number]]
    digest = hashlib.sha256()
    for part in (ranging, holdout):
        for case in part:
            digest.update(f"{case.name}\n".encode())
            for name, value in case.inputs.items():
                digest.update(f"{name} {value.shape}\n".encode())
                digest.update(np.ascontiguousarray(value, np.float32).tobytes())
        digest.update(b"\n")
    return Calibration(tuple(ranging), tuple(holdout), f"{len(frames)} pictures: {source}", digest.hexdigest(), warning)


def _reduced(picture: np.ndarray) -> np.ndarray:
    ratio = _KEPT_SIDE / max(picture.shape[:2])
    if ratio >= 1:
        return picture
    height, width = (max(1, round(side * ratio)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
