"""How steady a quantized network's mattes are from frame to frame, beside those of the float network.

Whoever converts has no film at hand, so a photograph that comes with the package makes a short one: a window moves over
it by parts of a pixel and grows slowly, as a phone in a hand does. The way is known, so the matte of the first frame,
moved along, says what every later one should be: what differs is flicker.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from mobile_matting_export.formats.format import Format
from mobile_matting_export.images import load_picture, sample_pictures, to_input
from mobile_matting_export.metrics import dtssd
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.parity import first_states, run_frame

FRAMES = 9

# a window of this share of the picture leaves room for the way
_WINDOW = 0.9
# per frame: pixels of the network's input to the right and down, and growth of what is shown
_RIGHT, _DOWN, _GROWTH = 0.37, 0.23, 0.002
# pixels of the network's input at its border that are not scored: what is moved along has nothing to come in from there
_MARGIN = 6

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Stability:
    """dtSSD, see ``metrics.dtssd``; 0 is no flicker.

    ``dtssd``: int8 against float, frame by frame. ``dtssd_of_int8`` and ``dtssd_of_float``: each against its own matte
    of the first frame, moved along. ``source`` names the photograph.
    """

    source: str
    frames: int
    dtssd: float
    dtssd_of_int8: float
    dtssd_of_float: float


def measure_stability(network: LoadedNetwork, file_format: Format, files: tuple[Path, ...]) -> Stability:
    """Run the float network and its int8 files over the film; states are fed back, each side its own.

    Args:
        network: with its weights, as it was converted.
        file_format: opens the files.
        files: the int8 artifact's.
    """
    source = sample_pictures()[0]
    film = make_film(load_picture(source), network.size)
    inputs = [to_input(frame, network.spec.image, network.size) for frame in film]
    feedback = {state.name: state.source for state in network.spec.state}
    first = first_states(network)
    in_float = run_film(lambda given: run_frame(network, given), inputs, first, feedback)
    with contextlib.closing(file_format.open(files, "cpu")) as session:
        in_int8 = run_film(session.run, inputs, first, feedback)
    return Stability(
        source.name,
        len(film),
        dtssd([_inner(matte) for matte in in_int8], [_inner(matte) for matte in in_float]),
        flicker(in_int8),
        flicker(in_float),
    )


def make_film(picture: npt.NDArray[np.uint8], size: tuple[int, int], frames: int = FRAMES) -> list[np.ndarray]:
    """Frames, uint8 H x W x 3 RGB, of a window that moves over ``picture``.

    The window has the aspect of ``size``, height and width of the network's input, so that nothing is stretched.
    """
    height, width = picture.shape[:2]
    scale = _WINDOW * min(height / size[0], width / size[1])  # pixels of the picture for one of the input
    window = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    corner = np.array([(width - window[1]) / 2, (height - window[0]) / 2])
    made = []
    for number in range(frames):
        way = _way(number, (window[0], window[1]), scale)
        way[:, 2] += corner
        made.append(_look_through(picture, way, (window[0], window[1])))
    return made


def run_film(
    run: Run, images: Sequence[np.ndarray], first: Mapping[str, np.ndarray], feedback: Mapping[str, str]
) -> list[np.ndarray]:
    """Mattes H x W float32 of consecutive frames.

    A network with a state sees the first frame twice, and its second matte counts: the first starts from nothing.

    Args:
        run: takes inputs by name to outputs by name, ``alpha`` 1x1xHxW among them.
        images: each 1x3xHxW float32.
        first: states before the first frame, by input.
        feedback: input of a state -> output that it comes from.
    """
    states, mattes = dict(first), []
    shown = [images[0], *images] if feedback else list(images)
    for image in shown:
        outputs = run({"image": image, **states})
        states = {name: outputs[source] for name, source in feedback.items()}
        mattes.append(np.array(outputs["alpha"][0, 0]))
    return mattes[len(shown) - len(images) :]


def flicker(mattes: Sequence[np.ndarray]) -> float:
    """The dtSSD of mattes of ``make_film`` against the first of them, moved along; the network's border left out.

    Moving by parts of a pixel interpolates, so even a perfect network does not reach 0.
    """
    size = (mattes[0].shape[0], mattes[0].shape[1])
    moved = [_look_through(mattes[0], _way(number, size, 1.0), size) for number in range(len(mattes))]
    return dtssd([_inner(matte) for matte in mattes], [_inner(matte) for matte in moved])


def _way(number: int, window: tuple[int, int], scale: float) -> npt.NDArray[np.float64]:
    """2 x 3: where a pixel (x, y) of frame ``number`` lies in frame 0, for a window of ``scale`` pixels an input's."""
    growth = math.exp(-_GROWTH * number)
    middle = np.array([(window[1] - 1) / 2, (window[0] - 1) / 2])
    shift = np.array([_RIGHT, _DOWN]) * number * scale
    return np.hstack([growth * np.eye(2), ((1 - growth) * middle + shift)[:, np.newaxis]])


def _look_through(picture: np.ndarray, way: npt.NDArray[np.float64], window: tuple[int, int]) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, way, (window[1], window[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _inner(matte: np.ndarray) -> np.ndarray:
    height, width = (min(_MARGIN, (side - 1) // 2) for side in matte.shape)
    return matte[height : matte.shape[0] - height, width : matte.shape[1] - width]
