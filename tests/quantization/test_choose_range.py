"""Ranges keep zero exact, and are where theory or a plain search puts them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mobile_matting_export.quantization.choose_range import choose_range, choose_threshold
from mobile_matting_export.quantization.histogram import Histogram, collect_histograms
from mobile_matting_export.quantization.ranges import METHODS, Method, Range

Choose = Callable[[Histogram, Method], Range]
both = pytest.mark.parametrize("choose", [choose_range, choose_threshold])
every_method = pytest.mark.parametrize("method", METHODS)


def of(values: np.ndarray) -> Histogram:
    return collect_histograms(lambda: [("t", values.astype(np.float32))])["t"]


def normal(count: int = 400_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, count)


def laplace(count: int = 400_000) -> np.ndarray:
    return np.random.default_rng(1).laplace(0, 1, count)


def rounded(values: np.ndarray, low: float, steps: int, step: float) -> np.ndarray:
    return np.clip(np.rint(values / step), low, low + steps) * step


def affine_error(values: np.ndarray, chosen: Range) -> float:
    step = (chosen.high - chosen.low) / 255
    return float(np.square(values - rounded(values, -np.rint(-chosen.low / step), 255, step)).mean())


def symmetric_error(values: np.ndarray, chosen: Range) -> float:
    return float(np.square(values - rounded(values, -127, 254, chosen.threshold / 127)).mean())


@both
@every_method
@pytest.mark.parametrize("shift", [-3.0, 0.0, 0.7, 3.0])
def test_zero_is_inside_and_nothing_is_wider_than_the_values(choose: Choose, method: Method, shift: float) -> None:
    values = normal(20_000) * 0.5 + shift
    chosen, widest = choose(of(values), method), choose(of(values), "minmax")
    assert widest.low <= chosen.low <= 0 <= chosen.high <= widest.high
    assert chosen.high - chosen.low > 0


def test_minmax_is_exact() -> None:
    values = np.array([-0.1, 0.7, 0.30000001], np.float32)
    assert choose_range(of(values), "minmax") == Range(float(values[0]), float(values[1]))
    assert choose_threshold(of(values), "minmax") == Range(-float(values[1]), float(values[1]))
    assert choose_range(of(np.array([3.0, 5.0])), "minmax") == Range(0.0, 5.0)
    assert choose_threshold(of(np.array([-5.0, -3.0])), "minmax") == Range(-5.0, 5.0)


@both
@every_method
def test_zeros_alone_have_the_range_zero(choose: Choose, method: Method) -> None:
    assert choose(of(np.zeros(10)), method) == Range(0.0, 0.0)


@every_method
@pytest.mark.parametrize("value", [-2.5, 4.0])
def test_a_constant_is_kept(method: Method, value: float) -> None:
    histogram = of(np.full(100, value))
    chosen = choose_range(histogram, method)
    assert min(chosen.low, chosen.high, key=abs) == 0
    # mse and kl may also choose a narrower range that clips nothing of the one value: there is none
    assert chosen.low + chosen.high == value
    assert choose_threshold(histogram, method) == Range(-abs(value), abs(value))


@every_method
def test_a_tensor_behind_a_relu_keeps_low_at_zero(method: Method) -> None:
    assert choose_range(of(np.maximum(normal(), 0)), method).low == 0
    assert choose_range(of(np.minimum(normal(), 0)), method).high == 0


@every_method
def test_zeros_of_a_relu_change_no_range(method: Method) -> None:
    values = np.abs(laplace(50_000))
    chosen, padded = choose_range(of(values), method), choose_range(of(np.append(values, np.zeros(10**6))), method)
    # without zeros the bins begin at the smallest value: one bin may be cut elsewhere
    assert padded.high == pytest.approx(chosen.high, abs=values.max() / 2048)


@both
def test_one_outlier_widens_minmax_wholly_mse_by_what_it_weighs_and_others_not(choose: Choose) -> None:
    histogram = of(np.append(normal(), 30.0))
    assert choose(histogram, "minmax").high == 30
    assert 6 < choose(histogram, "mse").high < 25
    for method in ("percentile", "kl"):
        assert 3 < choose(histogram, method).high < 6, method


def test_percentile_cuts_one_value_in_ten_thousand_from_both_sides_together() -> None:
    values = normal(2_000_000)
    chosen = choose_range(of(values), "percentile")
    cut = np.mean((values < chosen.low) | (values > chosen.high))
    assert 0.8e-4 <= cut <= 1e-4
    # of a symmetric distribution the narrowest range is symmetric: 0.005 % lie beyond 3.891 on either side
    assert chosen.low == pytest.approx(-3.891, abs=0.05)
    assert chosen.high == pytest.approx(3.891, abs=0.05)
    assert choose_threshold(of(values), "percentile").threshold == pytest.approx(3.891, abs=0.01)


def test_percentile_cuts_the_long_tail_and_leaves_the_short_one() -> None:
    values = np.concatenate([np.random.default_rng(0).uniform(-0.4, 0, 100_000), np.abs(laplace(100_000))])
    chosen = choose_range(of(values), "percentile")
    assert chosen.low == pytest.approx(-0.4, abs=1e-3)
    # 0.01 % of all are 0.02 % of the positive ones: ln 5000
    assert chosen.high == pytest.approx(np.log(5000), rel=0.06)


def test_percentile_of_few_values_cuts_none() -> None:
    values = normal(9_000)
    assert choose_range(of(values), "percentile") == choose_range(of(values), "minmax")


@pytest.mark.parametrize("negative", [0.0, 0.1, 1.0])
def test_mse_is_where_a_plain_search_over_the_values_finds_it(negative: float) -> None:
    values = laplace(100_000)
    values[values < 0] *= negative
    histogram = of(values)
    fractions = np.linspace(0.1, 1, 24)
    ends = [(left, right) for left in fractions for right in fractions]
    plain = [affine_error(values, Range(histogram.low * left, histogram.high * right)) for left, right in ends]
    assert affine_error(values, choose_range(histogram, "mse")) <= 1.01 * min(plain)
    plain = [symmetric_error(values, Range(-top, top)) for top in fractions * max(-histogram.low, histogram.high)]
    assert symmetric_error(values, choose_threshold(histogram, "mse")) <= 1.01 * min(plain)


@pytest.mark.parametrize("method", ["percentile", "minmax", "kl"])
def test_no_method_has_less_squared_error_than_mse(method: Method) -> None:
    for values in (normal(), laplace(), np.maximum(normal(), 0), np.append(laplace(), 200.0)):
        histogram = of(values)
        least = affine_error(values, choose_range(histogram, "mse"))
        assert least <= 1.01 * affine_error(values, choose_range(histogram, method))
        least = symmetric_error(values, choose_threshold(histogram, "mse"))
        assert least <= 1.01 * symmetric_error(values, choose_threshold(histogram, method))


@both
@every_method
def test_values_that_fill_their_range_evenly_are_not_clipped(choose: Choose, method: Method) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 500_000)
    assert choose(of(values), method).threshold == pytest.approx(1, abs=1e-3 if method == "percentile" else 1e-5)


@both
@every_method
def test_a_range_scales_with_its_tensor(choose: Choose, method: Method) -> None:
    chosen, larger = (choose(of(laplace(50_000) * factor), method) for factor in (1, 1024))
    assert larger.low == pytest.approx(1024 * chosen.low, rel=1e-12)
    assert larger.high == pytest.approx(1024 * chosen.high, rel=1e-12)


@both
def test_kl_clips_a_long_tail_but_not_beyond_its_levels(choose: Choose) -> None:
    values = laplace()
    histogram = of(values)
    chosen, widest = choose(histogram, "kl"), choose(histogram, "minmax")
    assert (widest.high - widest.low) / 16 * 0.99 <= chosen.high - chosen.low < widest.high - widest.low


def test_kl_does_not_clip_much_to_tell_constant_channels_apart() -> None:
    rng = np.random.default_rng(0)
    # as behind a ReLU6 of mmnet: without the limit 9 % of the values are cut, for finer levels between these channels
    constant = np.repeat(rng.uniform(0, 2, 40), 5_000)
    moving = np.minimum(rng.exponential(0.7, 200_000), 6)
    values = np.concatenate([constant, moving])
    chosen = choose_range(of(values), "kl")
    assert chosen.high < 6
    assert np.mean(values > chosen.high) <= 1e-3
