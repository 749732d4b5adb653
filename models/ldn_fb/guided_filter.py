"""The guided filter: smooths a matte inside flat areas and moves its edges to those of the picture.

He, Sun and Tang, "Guided Image Filtering", TPAMI 2013, with a grey guide. Written with plain box
filters (``cv2.boxFilter``), since opencv-python-headless is built without ``cv2.ximgproc``, where OpenCV
keeps its own.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float64]


def guided_filter(
    alpha: npt.NDArray[np.float32], guide: npt.NDArray[np.float32], radius: int, eps: float
) -> npt.NDArray[np.float32]:
    """Filter ``alpha`` under the luma of ``guide``.

    With I the luma (0.299 R + 0.587 G + 0.114 B), p the matte, and f the mean over the window of
    (2 radius + 1)^2 pixels, of which only those inside the picture count (eqs. 5, 6 and 8):

        a = (f(I p) - f(I) f(p)) / (f(I I) - f(I)^2 + eps)
        b = f(p) - a f(I)
        q = f(a) I + f(b)

    Args:
        alpha: float32 H x W, the matte p.
        guide: float32 H x W x 3, RGB in 0..1.
        radius: of the window, in pixels, at least 0.
        eps: above 0; where the luma's variance is far below it, q is a mean of the matte.

    Returns:
        float32 H x W, q; linear in ``alpha``, so it may overshoot [0, 1] a little.

    Raises:
        ValueError: shapes that do not fit, a negative radius, or no positive ``eps``.
    """
    if alpha.ndim != 2 or guide.shape != (*alpha.shape, 3):
        raise ValueError(f"the guide of a matte {alpha.shape} must be H x W x 3 of the same size, not {guide.shape}")
    if radius < 0 or eps <= 0:
        raise ValueError(f"the guided filter needs radius >= 0 and eps > 0, not {radius} and {eps}")
    # in double: the variance is a small difference, which float32 loses for an eps below 1e-6
    luma = cv2.cvtColor(np.asarray(guide, np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64)
    matte = alpha.astype(np.float64)
    count = _box_sum(np.ones_like(matte), radius)

    def mean(values: Map) -> Map:
        return _box_sum(values, radius) / count

    mean_luma, mean_matte = mean(luma), mean(matte)
    covariance = mean(luma * matte) - mean_luma * mean_matte
    variance = mean(luma * luma) - mean_luma**2
    a = covariance / (variance + eps)
    b = mean_matte - a * mean_luma
    return (mean(a) * luma + mean(b)).astype(np.float32)


def _box_sum(values: Map, radius: int) -> Map:
    side = 2 * radius + 1
    # zeros outside, and no normalization: divided by the count of pixels inside it is the mean of those
    total = cv2.boxFilter(values, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total, np.float64)
