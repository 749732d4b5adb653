"""The box-filter form equals the definition by windows, borders included, and its two limits."""

from __future__ import annotations

import numpy as np
import pytest

from models.ldn_fb.guided_filter import guided_filter

LUMA = np.array((0.299, 0.587, 0.114))


def random_pair(height: int = 11, width: int = 14) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((height, width), np.float32), rng.random((height, width, 3), np.float32)


def grey(luma: np.ndarray) -> np.ndarray:
    return np.repeat(luma[..., None], 3, axis=2).astype(np.float32)


def windows_around(y: int, x: int, shape: tuple[int, int], radius: int) -> tuple[slice, slice]:
    return (
        slice(max(0, y - radius), min(shape[0], y + radius + 1)),
        slice(max(0, x - radius), min(shape[1], x + radius + 1)),
    )


def window_means(values: np.ndarray, radius: int) -> np.ndarray:
    places = np.ndindex(*values.shape)
    return np.reshape([values[windows_around(y, x, values.shape, radius)].mean() for y, x in places], values.shape)


def slow_guided_filter(alpha: np.ndarray, guide: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Equations 5, 6 and 8 of the paper, window by window: one line a*I + b is fitted in each."""
    luma, alpha = guide.astype(np.float64) @ LUMA, alpha.astype(np.float64)
    slope, offset = np.empty_like(alpha), np.empty_like(alpha)
    for y, x in np.ndindex(*alpha.shape):
        window = windows_around(y, x, alpha.shape, radius)
        i, p = luma[window], alpha[window]
        slope[y, x] = ((i * p).mean() - i.mean() * p.mean()) / (i.var() + eps)
        offset[y, x] = p.mean() - slope[y, x] * i.mean()
    return window_means(slope, radius) * luma + window_means(offset, radius)


@pytest.mark.parametrize(("radius", "eps"), [(0, 1e-2), (1, 1e-4), (3, 1e-2), (9, 1e-1)])
def test_the_box_form_equals_the_windows_up_to_the_borders(radius, eps):
    alpha, guide = random_pair()
    filtered = guided_filter(alpha, guide, radius, eps)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered, slow_guided_filter(alpha, guide, radius, eps), atol=2e-6)


def test_a_constant_guide_averages_twice_over_the_window():
    alpha, _ = random_pair()
    filtered = guided_filter(alpha, grey(np.full(alpha.shape, 0.4)), 2, 1e-3)
    np.testing.assert_allclose(filtered, window_means(window_means(alpha, 2), 2), atol=1e-6)


def test_a_matte_guided_by_itself_stays_at_a_tiny_eps():
    alpha, _ = random_pair()
    np.testing.assert_allclose(guided_filter(alpha, grey(alpha), 2, 1e-9), alpha, atol=1e-6)


def test_a_constant_matte_stays_whatever_the_guide():
    alpha, guide = random_pair()
    alpha[:] = 0.7
    np.testing.assert_allclose(guided_filter(alpha, guide, 3, 1e-4), alpha, atol=1e-6)


def test_an_edge_one_pixel_off_moves_to_the_guides_edge():
    step = np.repeat((np.arange(24) >= 12).astype(np.float32)[None], 24, axis=0)
    late = np.repeat((np.arange(24) >= 13).astype(np.float32)[None], 24, axis=0)
    filtered = guided_filter(late, grey(0.2 + 0.6 * step), 4, 1e-4)
    assert (np.abs(np.diff(late)).argmax(axis=1) == 12).all()
    assert (np.abs(np.diff(filtered)).argmax(axis=1) == 11).all()
    assert ((filtered - step) ** 2).mean() < ((late - step) ** 2).mean()


@pytest.mark.parametrize(
    ("shape", "radius", "eps", "says"),
    [((11, 13, 3), 2, 1e-3, "of the same size"), ((11, 14, 3), -1, 1e-3, "radius"), ((11, 14, 3), 2, 0.0, "eps")],
)
def test_unfit_arguments_are_refused(shape, radius, eps, says):
    alpha, _ = random_pair()
    with pytest.raises(ValueError, match=says):
        guided_filter(alpha, np.zeros(shape, np.float32), radius, eps)
