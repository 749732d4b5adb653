"""Drawn portraits repeat with their seed, look like portraits, and have a soft, whole-person matte."""

from __future__ import annotations

import numpy as np
import pytest

from mobile_matting_export.procedural_portraits import make_portrait


@pytest.mark.parametrize("size", [64, (96, 72), (50, 120)])
def test_picture_and_matte_have_the_asked_size_and_their_dtypes(size):
    image, alpha = make_portrait(3, size)
    shape = (size, size) if isinstance(size, int) else size
    assert image.shape == (*shape, 3) and image.dtype == np.uint8
    assert alpha.shape == shape and alpha.dtype == np.float32
    assert alpha.min() == 0.0 and alpha.max() == 1.0


def test_the_seed_decides_the_picture():
    first, again, other = make_portrait(5, 64), make_portrait(5, 64), make_portrait(6, 64)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_the_person_stands_at_the_bottom_middle_with_soft_edges():
    mattes = np.stack([make_portrait(seed, 128)[1] for seed in range(12)])
    shares = mattes.mean(axis=(1, 2))
    assert shares.min() > 0.15 and shares.max() < 0.8
    assert (mattes[:, -1, 64] > 0.99).all(), "the body leaves the picture at the bottom"
    assert (mattes[:, 0, 0] == 0).all(), "the upper corner is background"
    soft = ((mattes > 0.02) & (mattes < 0.98)).mean(axis=(1, 2))
    assert soft.min() > 0.005 and soft.max() < 0.25


def test_pictures_are_about_as_bright_as_photographs():
    brightness = [make_portrait(seed, 64)[0].mean() / 255 for seed in range(16)]
    assert 0.35 < np.mean(brightness) < 0.65


def test_a_tiny_size_is_refused():
    with pytest.raises(ValueError, match="too small"):
        make_portrait(0, (31, 64))
