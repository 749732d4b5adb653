"""Matting metrics between a predicted alpha matte and the true one.

Every function takes float arrays H x W in [0, 1], ``(prediction, truth)``; a prediction of another
size is brought to the truth's size first (bilinear, half-pixel centres), never the other way
round. Computation is in float64. Where a ``region`` (bool H x W) is taken, only its pixels are scored: the
unknown part of a trimap, say. An empty region has no score: NaN.

Sums (SAD, Grad, Conn) are divided by 1000, as the benchmarks print them, and grow with the resolution;
MAD, MSE and the two vector gradient errors are means. All raise UsageError for arrays that are no mattes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mobile_matting_export.errors import UsageError

Matte = npt.NDArray[np.floating]
Region = npt.NDArray[np.bool_]

CONN_THRESHOLDS = tuple(i / 10 for i in range(11))
"""i / 10, not ``arange(0, 1.1, 0.1)``: that has 0.6000000000000001, which 153/255 does not reach."""

CONN_STEP = 0.15
"""Differences to the connected level below it count as none (Rhemann et al.)."""

_SIGMA = 1.4
_RADIUS = 4


def mad(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Mean absolute difference, mean |a - g|."""
    return _mean(np.abs(_difference(prediction, truth)), region)


def mse(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Mean squared error, mean (a - g)^2."""
    return _mean(_difference(prediction, truth) ** 2, region)


def sad(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Sum of absolute differences, sum |a - g| / 1000 (Rhemann et al., alphamatting.com)."""
    return _thousands(np.abs(_difference(prediction, truth)), region)


def grad_adobe(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Gradient error of the Adobe evaluation code: sum (A(mm(a)) - A(mm(g)))^2 / 1000.

    A is the amplitude of first-order Gaussian derivatives (sigma 1.4, 9 x 9, unit L2 norm, replicated
    border). mm stretches each matte to [0, 1] first, which makes this variant **blind to a loss of
    contrast**: alpha x 0.8 scores nothing. Print ``grad_plain`` beside it.
    """
    a, g = _pair(prediction, truth)
    return _thousands((_amplitude(_stretch(a)) - _amplitude(_stretch(g))) ** 2, region)


def grad_plain(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Gradient error without the stretching: sum (A(a) - A(g))^2 / 1000, A as in ``grad_adobe``."""
    a, g = _pair(prediction, truth)
    return _thousands((_amplitude(a) - _amplitude(g)) ** 2, region)


def grad_fdm(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Mean norm of the difference of gradients, as in Fast Deep Matting (arXiv 1707.08289).

    The paper names no gradient operator; here central differences, one-sided at the border.
    """
    down, across = np.gradient(_difference(prediction, truth))
    return _mean(np.hypot(down, across), region)


def grad_mmnet(prediction: Matte, truth: Matte, region: Region | None = None) -> float:
    """Mean norm of the difference of Gaussian gradients, as in hyperconnect/MMNet.

    The Gaussian's weights sum to one; pixels nearer than four to the border are not scored, so a
    matte with a side below nine has no score (NaN).
    """
    error = _difference(prediction, truth)
    height, width = error.shape
    if min(height, width) <= 2 * _RADIUS:
        return math.nan
    kernel = _vector_kernel()
    inner = slice(_RADIUS, height - _RADIUS), slice(_RADIUS, width - _RADIUS)
    across, down = _correlate(error, kernel)[inner], _correlate(error, kernel.T)[inner]
    return _mean(np.hypot(across, down), None if region is None else _checked(region, error.shape)[inner])


def conn(
    prediction: Matte,
    truth: Matte,
    region: Region | None = None,
    thresholds: Sequence[float] = CONN_THRESHOLDS,
) -> float:
    """Connectivity error, sum |phi(a) - phi(g)| / 1000 (Rhemann et al.).

    phi(x) = 1 - (x - L) where x - L >= 0.15, else 1. L is the highest threshold at which a pixel still
    belongs to the largest 4-connected component of what both mattes hold. Largest means largest
    *foreground* component: implementations that let the background compete score a hole 0.
    """
    a, g = _pair(prediction, truth)
    level = np.full(a.shape, -1.0)
    for below, threshold in itertools.pairwise(thresholds):
        outside = ~_largest_component((a >= threshold) & (g >= threshold))
        level[(level < 0) & outside] = below
    level[level < 0] = 1.0
    return _thousands(np.abs(_connectedness(a, level) - _connectedness(g, level)), region)


def mad_band(prediction: Matte, truth: Matte) -> float:
    """MAD in the transition band of the truth: where edges and hair are; see ``transition_band``."""
    return mad(prediction, truth, transition_band(truth))


def iou(prediction: Matte, truth: Matte) -> float:
    """Intersection over union of {a >= 0.5} and {g >= 0.5}; 1 where both are empty."""
    a, g = _pair(prediction, truth)
    mine, true = a >= 0.5, g >= 0.5
    either = np.count_nonzero(mine | true)
    return np.count_nonzero(mine & true) / either if either else 1.0


def dtssd(predictions: Sequence[Matte], truths: Sequence[Matte]) -> float:
    """Flicker of a sequence: mean over t of 100 * sqrt(mean(((a_t - a_t-1) - (g_t - g_t-1))^2)).

    Erofeev et al., videomatting.com. A wrong but constant matte scores 0 on a still truth: print
    MAD beside it.

    Raises:
        UsageError: the sequences differ in length, or hold fewer than two frames.
    """
    if len(predictions) != len(truths) or len(truths) < 2:
        raise UsageError(
            f"dtSSD compares two sequences of the same length, two frames or more; these have {len(predictions)} "
            f"and {len(truths)}"
        )
    errors = [_difference(a, g) for a, g in zip(predictions, truths, strict=True)]
    if len({error.shape for error in errors}) > 1:
        raise UsageError("dtSSD compares frames of one size; this sequence changes its size")
    steps = [100 * math.sqrt(np.mean((now - before) ** 2)) for before, now in itertools.pairwise(errors)]
    return float(np.mean(steps))


def transition_band(truth: Matte) -> Region:
    """The pixels of {0 < g < 1} and around them, bool H x W.

    {0 < g < 1} dilated by a square of 2r + 1 pixels; r = 2 up to 256 pixels (longest side), in proportion above.
    """
    g = _matte(truth, "truth")
    radius = max(2, round(2 * max(g.shape) / 256))
    between = ((g > 0) & (g < 1)).astype(np.uint8)
    return cv2.dilate(between, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)).astype(bool)


def resize_to(prediction: Matte, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The matte at ``shape`` (H, W), float64, bilinear with half-pixel centres."""
    a = _matte(prediction, "prediction")
    if a.shape == shape:
        return a
    height, width = shape
    return np.asarray(cv2.resize(a, (width, height), interpolation=cv2.INTER_LINEAR), np.float64)


def _pair(prediction: Matte, truth: Matte) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    g = _matte(truth, "truth")
    return resize_to(prediction, g.shape), g


def _difference(prediction: Matte, truth: Matte) -> npt.NDArray[np.float64]:
    a, g = _pair(prediction, truth)
    return a - g


def _matte(values: Matte, name: str) -> npt.NDArray[np.float64]:
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.floating):
        raise UsageError(
            f"the {name} is {array.dtype} of shape {array.shape}; metrics take float mattes H x W in [0, 1]: "
            "divide an 8-bit matte by 255"
        )
    return np.ascontiguousarray(array, np.float64)


def _checked(region: Region, shape: tuple[int, ...]) -> Region:
    if region.shape != shape or region.dtype != np.bool_:
        raise UsageError(f"the region is {region.dtype} of shape {region.shape}; it must be bool {shape}, as the truth")
    return region


def _chosen(values: npt.NDArray[np.float64], region: Region | None) -> npt.NDArray[np.float64]:
    return values.ravel() if region is None else values[_checked(region, values.shape)]


def _mean(values: npt.NDArray[np.float64], region: Region | None) -> float:
    chosen = _chosen(values, region)
    return float(chosen.mean()) if chosen.size else math.nan


def _thousands(values: npt.NDArray[np.float64], region: Region | None) -> float:
    chosen = _chosen(values, region)
    return float(chosen.sum()) / 1000 if chosen.size else math.nan


def _stretch(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else np.zeros_like(x)


def _amplitude(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    kernel = _unit_kernel()
    return np.hypot(_correlate(x, kernel), _correlate(x, kernel.T))


def _correlate(x: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(cv2.filter2D(x, cv2.CV_64F, kernel, borderType=cv2.BORDER_REPLICATE), np.float64)


def _offsets() -> npt.NDArray[np.float64]:
    return np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float64)


def _unit_kernel() -> npt.NDArray[np.float64]:
    """G(row) * G'(column), 9 x 9, divided by its own L2 norm."""
    u = _offsets()
    gauss = np.exp(-(u**2) / (2 * _SIGMA**2)) / (_SIGMA * math.sqrt(2 * math.pi))
    kernel = np.outer(gauss, -u * gauss / _SIGMA**2)
    return kernel / np.linalg.norm(kernel)


def _vector_kernel() -> npt.NDArray[np.float64]:
    """-u / sigma^2 times Gaussian weights that sum to one, 9 x 9."""
    u = _offsets()
    line = np.exp(-(u**2) / (2 * _SIGMA**2))
    weights = np.outer(line, line)
    return -u[np.newaxis] * weights / weights.sum() / _SIGMA**2


def _largest_component(mask: Region) -> Region:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:  # label 0 is the background, which must not compete
        return np.zeros_like(mask)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _connectedness(x: npt.NDArray[np.float64], level: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = x - level
    return 1 - above * (above >= CONN_STEP)
