"""Every golden value of the metrics' notes, and the traps of other implementations by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from mobile_matting_export import metrics
from mobile_matting_export.errors import UsageError

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(float)
DISTANCE = 15 - np.hypot(1.25 * (X - 31.5), Y - 26) + 1.5 * np.sin(6 * np.arctan2(Y - 26, X - 31.5))
TRUTH8 = np.floor(255 * np.clip(DISTANCE / 6 + 0.5, 0, 1) + 0.5)
TRUTH = TRUTH8 / 255
TOLERANCE = 1e-6


def _round(x: np.ndarray) -> np.ndarray:
    return np.floor(x + 0.5)


CASES = {
    "identity": TRUTH8,
    "scale0.8": _round(0.8 * TRUTH8),
    "offset+4": np.minimum(TRUTH8 + 4, 255),
    "shift1": np.concatenate([TRUTH8[:, :1], TRUTH8[:, :-1]], axis=1),
    "levels16": _round(_round(TRUTH8 / 17) * 17),
    "hole": np.where(np.hypot(X - 31.5, Y - 28) < 4, 0, TRUTH8),
    "blob": np.where(np.hypot(X - 5, Y - 5) < 3, 255, TRUTH8),
    "ripple": _round(np.clip(TRUTH8 + 12 * np.sin(0.9 * X + 0.7 * Y), 0, 255)),
}
SUMS = (146868, 117498, 157682, 146868, 146846, 134628, 153243, 154116)
COLUMNS = ("sad", "mad", "mse", "mad_band", "grad_adobe", "grad_plain", "grad_mmnet", "grad_fdm", "conn", "iou")
# conn with thresholds i / 10; "Conn (arange)" of the notes differs in two rows, see below
GOLDEN = {
    "identity": (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
    "scale0.8": (0.115176, 0.037492, 0.006517, 0.084996, 1e-6, 0.045901, 0.007742, 0.005983, 0.114549, 0.884211),
    "offset+4": (0.042408, 0.013805, 0.000217, 0.012603, 0.000261, 0.000337, 0.000511, 0.000420, 0, 0.993031),
    "shift1": (0.063663, 0.020724, 0.003406, 0.070113, 0.078864, 0.078864, 0.011719, 0.011077, 0.063306, 0.896839),
    "levels16": (0.007349, 0.002392, 0.000054, 0.008094, 0.000186, 0.000186, 0.000624, 0.002956, 0, 1),
    "hole": (0.048, 0.015625, 0.015625, 0, 0.418803, 0.418803, 0.010085, 0.008622, 0.048, 0.915789),
    "blob": (0.025, 0.008138, 0.008138, 0, 0.263557, 0.263557, 0.003021, 0.006129, 0.025, 0.957983),
    "ripple": (0.053114, 0.017290, 0.000641, 0.023288, 0.010088, 0.010088, 0.006068, 0.018194, 0, 0.984375),
}
ALL = [getattr(metrics, name) for name in COLUMNS]


def test_the_cases_are_those_of_the_notes() -> None:
    assert [int(case.sum()) for case in CASES.values()] == list(SUMS)
    assert TRUTH8[26, 14:24].tolist() == [0, 0, 0, 0, 48, 101, 154, 207, 255, 255]
    assert (np.count_nonzero(TRUTH8 == 0), np.count_nonzero(TRUTH8 == 255)) == (2258, 368)
    assert np.count_nonzero(metrics.transition_band(TRUTH)) == 908


@pytest.mark.parametrize("metric", COLUMNS)
@pytest.mark.parametrize("case", CASES)
def test_golden_value(case: str, metric: str) -> None:
    value = getattr(metrics, metric)(CASES[case] / 255, TRUTH)
    assert value == pytest.approx(GOLDEN[case][COLUMNS.index(metric)], abs=TOLERANCE)


@pytest.mark.parametrize(("case", "expected"), [("scale0.8", 0.115047), ("shift1", 0.063757), ("hole", 0.048)])
def test_conn_with_thresholds_of_arange(case: str, expected: float) -> None:
    thresholds = list(np.arange(0, 1.1, 0.1))
    assert metrics.conn(CASES[case] / 255, TRUTH, thresholds=thresholds) == pytest.approx(expected, abs=TOLERANCE)


def test_wrong_conn_trap_the_background_does_not_compete() -> None:
    # a port that counts label 0 as a component scores a hole and a blob exactly 0
    assert metrics.conn(CASES["hole"] / 255, TRUTH) > 0.04
    assert metrics.conn(CASES["blob"] / 255, TRUTH) > 0.02


def test_min_max_grad_trap_only_the_plain_variant_sees_lost_contrast() -> None:
    faded = CASES["scale0.8"] / 255
    assert metrics.grad_adobe(faded, TRUTH) < 1.5e-6
    assert metrics.grad_plain(faded, TRUTH) > 0.04


@pytest.mark.parametrize("grad", [metrics.grad_adobe, metrics.grad_plain])
def test_a_constant_prediction_has_no_gradient(grad: Callable[..., float]) -> None:
    assert grad(np.full_like(TRUTH, 0.5), TRUTH) == pytest.approx(1.147230, abs=TOLERANCE)


def test_kernels_are_those_of_the_notes() -> None:
    unit, vector = metrics._unit_kernel(), metrics._vector_kernel()
    assert unit[4, 3] == pytest.approx(0.3154337161, abs=1e-10)
    assert unit[4, 0] == pytest.approx(0.0274869767, abs=1e-10)
    assert vector[4, 3] == pytest.approx(0.0321671772, abs=1e-10)


def test_a_region_alone_is_scored() -> None:
    unknown = (TRUTH > 0) & (TRUTH < 1)
    shifted = CASES["shift1"] / 255
    assert metrics.sad(shifted, TRUTH, unknown) == pytest.approx(0.057435, abs=TOLERANCE)
    assert metrics.mse(shifted, TRUTH, unknown) == pytest.approx(0.021594, abs=TOLERANCE)


@pytest.mark.parametrize("metric", [m for m in ALL if m.__name__ not in ("iou", "mad_band")], ids=lambda m: m.__name__)
def test_an_empty_region_has_no_score(metric: Callable[..., float]) -> None:
    assert math.isnan(metric(TRUTH, TRUTH, np.zeros(TRUTH.shape, bool)))


@pytest.mark.parametrize("case", ["scale0.8", "shift1", "hole", "ripple"])
def test_background_iou(case: str) -> None:
    golden = {"scale0.8": 0.974299, "shift1": 0.975523, "hole": 0.981176, "ripple": 0.996407}
    # nudged: 0.5 itself is foreground, so the background is what lies below
    background = metrics.iou(np.nextafter(1 - CASES[case] / 255, 0), np.nextafter(1 - TRUTH, 0))
    assert background == pytest.approx(golden[case], abs=TOLERANCE)


def _frames(change: Callable[[int, np.ndarray], np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    truths = [np.roll(TRUTH, t, axis=1) for t in range(5)]
    return [change(t, truth) for t, truth in enumerate(truths)], truths


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t, g: g + (-1) ** t * 2 / 255, 1.568627),
        (lambda t, g: np.clip(g + (-1) ** t * 2 / 255, 0, 1), 0.938974),
        (lambda t, g: np.roll(g, -1, axis=1) if t else g, 3.804572),
        (lambda t, g: g, 0.0),
    ],
    ids=["flicker", "flicker clipped", "a frame late", "exact"],
)
def test_dtssd(change: Callable[[int, np.ndarray], np.ndarray], expected: float) -> None:
    assert metrics.dtssd(*_frames(change)) == pytest.approx(expected, abs=TOLERANCE)


def test_dtssd_does_not_see_a_constant_wrong_matte() -> None:
    still, empty = [TRUTH] * 3, [np.zeros_like(TRUTH)] * 3
    assert metrics.dtssd(empty, still) == 0.0
    assert metrics.mad(empty[0], still[0]) > 0.1


@pytest.mark.parametrize(
    ("predictions", "truths"),
    [([TRUTH], [TRUTH]), ([TRUTH] * 2, [TRUTH] * 3), ([TRUTH] * 2, [TRUTH, TRUTH[:-1]])],
    ids=["one frame", "unlike lengths", "unlike sizes"],
)
def test_dtssd_refuses_what_is_no_pair_of_sequences(predictions: list[np.ndarray], truths: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="dtSSD"):
        metrics.dtssd(predictions, truths)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.__name__)
def test_the_prediction_comes_to_the_truths_size(metric: Callable[..., float]) -> None:
    small = np.ascontiguousarray(TRUTH[::2, ::2])
    assert metric(small, TRUTH) == metric(metrics.resize_to(small, TRUTH.shape), TRUTH)


def test_resizing_is_bilinear_with_half_pixel_centres() -> None:
    corners = np.array([[0.0, 1.0], [0.5, 0.25]])
    along = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    assert metrics.resize_to(corners, (4, 4)) == pytest.approx(along @ corners @ along.T)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.__name__)
def test_arguments_are_left_as_they_were(metric: Callable[..., float]) -> None:
    prediction, truth = CASES["ripple"] / 255, TRUTH.copy()
    before = prediction.copy()
    metric(prediction, truth)
    assert np.array_equal(prediction, before) and np.array_equal(truth, TRUTH)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    "wrong", [TRUTH8.astype(np.uint8), TRUTH[np.newaxis], np.zeros((0, 4))], ids=["bytes", "three axes", "empty"]
)
def test_what_is_no_matte_is_refused(metric: Callable[..., float], wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match="metrics take float mattes"):
        metric(wrong, TRUTH)


def test_a_region_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="the region is"):
        metrics.mad(TRUTH, TRUTH, np.ones((3, 3), bool))


def test_a_matte_too_small_for_the_valid_border_has_no_score() -> None:
    assert math.isnan(metrics.grad_mmnet(TRUTH[:8], TRUTH[:8]))


def test_two_empty_mattes_agree() -> None:
    assert metrics.iou(np.zeros((4, 4)), np.zeros((4, 4))) == 1.0
