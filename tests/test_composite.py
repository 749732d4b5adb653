"""People are cut out without the colour of their old background."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mobile_matting_export.composite import add_matte, composite, estimate_foreground, parse_background
from mobile_matting_export.errors import UsageError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(color: tuple[int, int, int], size: int = 96) -> np.ndarray:
    return np.full((size, size, 3), color, np.uint8)


def soft_disc(size: int = 96) -> np.ndarray:
    disc = np.zeros((size, size), np.float32)
    cv2.circle(disc, (size // 2, size // 2), size // 4, 1.0, -1)
    return cv2.blur(disc, (13, 13))


def blend(over: np.ndarray, alpha: np.ndarray, under: np.ndarray) -> np.ndarray:
    weight = alpha[:, :, np.newaxis]
    return np.rint(weight * over + (1 - weight) * under).astype(np.uint8)


def error(left: np.ndarray, right: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(left.astype(float) - right.astype(float))[where].mean())


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 200)])
def test_an_opaque_matte_keeps_the_picture(shape: tuple[int, int]) -> None:
    picture, alpha = noise(*shape), np.ones(shape, np.float32)
    np.testing.assert_array_equal(estimate_foreground(picture, alpha), picture)
    np.testing.assert_array_equal(composite(picture, alpha, noise(*shape, seed=1)), picture)


def test_an_empty_matte_leaves_the_background() -> None:
    background = noise(20, 30, seed=1)
    result = composite(noise(20, 30), np.zeros((20, 30), np.float32), background)
    np.testing.assert_array_equal(result, background)


def test_soft_edges_lose_the_old_background() -> None:
    person, old, new, alpha = plain((200, 40, 30)), plain((20, 60, 220)), plain((40, 180, 60)), soft_disc()
    picture = blend(person, alpha, old)
    edge = (alpha > 0.1) & (alpha < 0.9)
    assert edge.sum() > 500
    estimated = error(composite(picture, alpha, new), blend(person, alpha, new), edge)
    naive = error(blend(picture, alpha, new), blend(person, alpha, new), edge)
    # measured: 4.9 of 255 against 24.9
    assert estimated < 0.25 * naive


def test_the_foreground_of_a_textured_person_is_nearer_than_the_picture() -> None:
    person, old, alpha = cv2.blur(noise(96, 96), (9, 9)), cv2.blur(noise(96, 96, 1), (9, 9)) // 2, soft_disc()
    picture = blend(person, alpha, old)
    edge = (alpha > 0.2) & (alpha < 0.8)
    assert error(estimate_foreground(picture, alpha), person, edge) < 0.5 * error(picture, person, edge)


def test_cut_out_carries_the_matte_as_transparency() -> None:
    alpha = np.array([[0.0, 0.25, 1.0]], np.float32)
    result = add_matte(estimate_foreground(noise(1, 3), alpha), alpha)
    assert result.shape == (1, 3, 4) and result.dtype == np.uint8
    np.testing.assert_array_equal(result[0, :, 3], [0, 64, 255])
    np.testing.assert_array_equal(result[:, :, :3], estimate_foreground(noise(1, 3), alpha))


def test_alpha_outside_its_range_is_clipped() -> None:
    alpha = np.array([[-0.5, 1.5]], np.float32)
    np.testing.assert_array_equal(add_matte(noise(1, 2), alpha)[0, :, 3], [0, 255])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        estimate_foreground(noise(4, 4), np.ones((4, 5), np.float32))
    with pytest.raises(UsageError, match="does not fit"):
        composite(noise(4, 4), np.ones((4, 4), np.float32), noise(4, 5))


@pytest.mark.parametrize(
    ("text", "color"),
    [("white", (255, 255, 255)), ("#4f9d69", (79, 157, 105)), ("#f00", (255, 0, 0)), ("rgb(1,2,3)", (1, 2, 3))],
)
def test_a_background_may_be_a_colour(text: str, color: tuple[int, int, int]) -> None:
    background = parse_background(text, (3, 4, 3))
    assert background.shape == (3, 4, 3) and background.dtype == np.uint8 and background.flags.writeable
    assert (background == color).all()


def test_a_background_picture_covers_the_frame_and_is_cropped_about_its_centre(tmp_path: Path) -> None:
    stripes = np.concatenate([plain((255, 0, 0), 30), plain((0, 255, 0), 30), plain((0, 0, 255), 30)], axis=1)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    background = parse_background(str(tmp_path / "stripes.png"), (20, 20))
    assert background.shape == (20, 20, 3)
    # beyond the reach of the Lanczos filter over the stripes' borders
    assert (background[:, 3:-3] == (0, 255, 0)).all()


@pytest.mark.parametrize("text", ["no-such-colour", "missing.png", "", "#12345"])
def test_a_background_that_is_neither_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        parse_background(text, (2, 2))


def test_a_damaged_background_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with pytest.raises(UsageError, match=r"b\.png"):
        parse_background(str(tmp_path / "b.png"), (2, 2))


def test_a_transparent_background_is_refused_with_the_opaque_one() -> None:
    with pytest.raises(UsageError, match="such as #102030"):
        parse_background("#10203040", (2, 2))
