from __future__ import annotations

import numpy as np
import pytest

from mobile_matting_export.quantization.score import score_mattes


def _edge(shift: int = 0) -> np.ndarray:
    """A hard edge, 1x1x32x32: the band is what is near it once it is soft."""
    matte = np.zeros((1, 1, 32, 32), np.float32)
    matte[..., 16 + shift :] = 1
    matte[..., 15 + shift] = 0.5
    return matte


def test_errors_are_counted_in_the_band_and_over_all() -> None:
    matte = _edge()
    matte[..., 15] += 0.1

    score = score_mattes(["a", "b"], [_edge(), _edge()], [_edge(), matte])

    # the band is the edge's column and two on each side
    assert score.mad_band == pytest.approx(0.1 / 5 / 2, rel=1e-5)
    assert score.mad == pytest.approx(0.1 / 32 / 2, rel=1e-5)
    assert (score.worst, score.worst_band) == ("b", pytest.approx(0.1 / 5, rel=1e-5))
    assert score.max_abs == pytest.approx(0.1, rel=1e-5)
    assert score.psnr == pytest.approx(10 * np.log10(32 / 0.01), rel=1e-5)


def test_a_reference_that_never_quite_reaches_one_has_a_band_all_the_same() -> None:
    """A sigmoid's 0.9999 is 255 in 8 bits: it is no edge."""
    reference = np.clip(_edge(), 1e-4, 1 - 1e-4)
    matte = reference.copy()
    matte[..., 0] += 0.2

    assert score_mattes(["a"], [reference], [matte]).mad_band == 0


def test_a_matte_of_nan_scores_infinity() -> None:
    score = score_mattes(["a"], [_edge()], [np.full((1, 1, 32, 32), np.nan, np.float32)])

    assert score.mad_band == np.inf
    assert score.psnr == -np.inf
