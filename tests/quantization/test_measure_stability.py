"""The film moves as said, states are fed back, and flicker is told from movement."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mobile_matting_export.images import load_picture, sample_pictures
from mobile_matting_export.network import load_network
from mobile_matting_export.parity import run_frame
from mobile_matting_export.quantization.measure_stability import (
    FRAMES,
    Stability,
    flicker,
    make_film,
    measure_stability,
    run_film,
)

SIZE = (64, 96)


@pytest.fixture(scope="module")
def circle() -> np.ndarray:
    picture = np.zeros((400, 500, 3), np.uint8)
    cv2.circle(picture, (250, 200), 110, (255, 255, 255), -1)
    return picture


def mattes_of(film: list[np.ndarray]) -> list[np.ndarray]:
    return [
        cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA)[..., 0].astype(np.float32) / 255 for frame in film
    ]


def test_frames_have_the_aspect_of_the_input_lie_within_the_picture_and_are_the_same_every_time(
    circle: np.ndarray,
) -> None:
    film = make_film(circle, SIZE)
    assert len(film) == FRAMES
    assert {frame.shape for frame in film} == {(300, 450, 3)}  # 0.9 of 333 x 500
    assert all(np.array_equal(one, other) for one, other in zip(film, make_film(circle, SIZE), strict=True))


def test_the_window_moves_to_the_right_and_down_by_parts_of_an_input_pixel(circle: np.ndarray) -> None:
    centres = []
    for matte in mattes_of(make_film(circle, SIZE)):
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        centres.append(((rows * matte).sum() / matte.sum(), (columns * matte).sum() / matte.sum()))
    down, right = np.diff(np.array(centres), axis=0).mean(axis=0)
    # the circle moves against the window; growth moves it too, the less the nearer it is to the middle
    assert right == pytest.approx(-0.37, abs=0.02)
    assert down == pytest.approx(-0.23, abs=0.02)


def test_a_matte_that_follows_flickers_less_than_one_that_stays_or_shivers(circle: np.ndarray) -> None:
    following = mattes_of(make_film(circle, SIZE))
    random = np.random.default_rng(0)
    shivering = [np.clip(matte + random.normal(0, 0.05, SIZE), 0, 1).astype(np.float32) for matte in following]
    # what is left of following is interpolation: 1.9 measured
    assert flicker(following) < 2.5
    assert flicker([following[0]] * FRAMES) > 1.5 * flicker(following)
    assert flicker(shivering) > 1.5 * flicker(following)


def test_states_are_fed_back_and_the_first_frame_is_seen_twice() -> None:
    seen: list[tuple[float, float]] = []

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append((float(inputs["image"].max()), float(inputs["previous_alpha"].max())))
        return {"alpha": inputs["image"][:, :1] + 0.5 * inputs["previous_alpha"]}

    images = [np.full((1, 3, 2, 2), value, np.float32) for value in (0.25, 0.5)]
    first = {"previous_alpha": np.zeros((1, 1, 2, 2), np.float32)}
    mattes = run_film(run, images, first, {"previous_alpha": "alpha"})
    assert seen == [(0.25, 0.0), (0.25, 0.25), (0.5, 0.375)]
    assert [float(matte.max()) for matte in mattes] == [0.375, 0.6875]


def test_without_a_state_every_frame_is_seen_once() -> None:
    images = [np.full((1, 3, 2, 2), value, np.float32) for value in (0.25, 0.5)]
    mattes = run_film(lambda inputs: {"alpha": inputs["image"][:, :1]}, images, {}, {})
    assert [float(matte.max()) for matte in mattes] == [0.25, 0.5]


def test_int8_is_compared_with_the_float_network_frame_by_frame() -> None:
    network = load_network("ldn_fb", size=(32, 32))

    class Shivering:
        """The network itself, with every second matte lower by 0.02."""

        device = "cpu"

        def __init__(self) -> None:
            self.frames = 0

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.frames += 1
            return {"alpha": run_frame(network, inputs)["alpha"] - 0.02 * (self.frames % 2)}

        def close(self) -> None:
            pass

    class Same(Shivering):
        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return run_frame(network, inputs)

    def measure(session: Shivering) -> Stability:
        class Opens:
            open = staticmethod(lambda files, accelerator: session)

        return measure_stability(network, Opens, ())  # type: ignore[arg-type]

    same, shivering = measure(Same()), measure(Shivering())
    assert (same.source, same.frames) == (sample_pictures()[0].name, FRAMES)
    assert same.dtssd == 0 and same.dtssd_of_int8 == same.dtssd_of_float > 0
    assert shivering.dtssd == pytest.approx(2.0, abs=1e-4)  # 0.02 from frame to frame, in percent
    assert shivering.dtssd_of_float == same.dtssd_of_float
    # not always larger: it adds to the network's own flicker as it falls
    assert shivering.dtssd_of_int8 != same.dtssd_of_int8


def test_a_picture_smaller_than_the_input_makes_a_film_too() -> None:
    picture = load_picture(sample_pictures()[0])[:40, :40]
    assert {frame.shape for frame in make_film(picture, (64, 64))} == {(36, 36, 3)}
