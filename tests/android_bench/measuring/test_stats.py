"""The statistics against distributions that are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from android_bench.gate import FAIL, INCONCLUSIVE, PASS, Budget, judge_result
from android_bench.stats import bootstrap_interval, interquartile_mean, ratio_interval, summarize

TRIALS = 1000
Draw = Callable[[np.random.Generator, float, float], np.ndarray]


def normal(rng: np.random.Generator, middle: float, spread: float) -> np.ndarray:
    return rng.normal(middle, spread, 7)


def uniform(rng: np.random.Generator, middle: float, spread: float) -> np.ndarray:
    return rng.uniform(middle - spread, middle + spread, 7)


def outcomes(draw: Draw, middle: float, spread: float, seed: int) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    counts = {PASS: 0, FAIL: 0, INCONCLUSIVE: 0}
    for _ in range(TRIALS):
        launches = [{"median_ms": float(value)} for value in draw(rng, middle, spread)]
        counts[judge_result({"accelerator_proved": True, "launches": launches}, Budget(30)).outcome] += 1
    return counts


distributions = pytest.mark.parametrize("draw", [normal, uniform])
seeds = pytest.mark.parametrize("seed", [0, 1])


@distributions
@seeds
def test_30_ms_with_1_ms_of_noise_always_passes_30_fps(draw: Draw, seed: int) -> None:
    assert outcomes(draw, 30, 1, seed)[PASS] == TRIALS


@distributions
@seeds
def test_36_ms_with_1_ms_of_noise_never_passes(draw: Draw, seed: int) -> None:
    assert outcomes(draw, 36, 1, seed)[PASS] == 0


@distributions
@seeds
def test_at_the_budget_itself_it_is_inconclusive(draw: Draw, seed: int) -> None:
    # 97 % was measured for both distributions
    assert outcomes(draw, 33.3, 3, seed)[INCONCLUSIVE] >= 0.95 * TRIALS


@distributions
def test_the_interval_covers_the_middle_in_95_of_100(draw: Draw) -> None:
    rng = np.random.default_rng(7)
    intervals = [bootstrap_interval(list(draw(rng, 20, 1))) for _ in range(TRIALS)]
    assert sum(low <= 20 <= high for low, high in intervals) >= 0.95 * TRIALS


def test_the_same_launches_give_the_same_interval() -> None:
    values = [10.0, 11.0, 10.5, 10.2, 12.0, 10.1, 10.9]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    low, high = bootstrap_interval(values)
    assert 10.0 <= low < 10.5 < high <= 12.0


def test_fewer_than_three_launches_know_nothing() -> None:
    assert bootstrap_interval([10.0, 10.0]) == (0.0, math.inf)
    assert ratio_interval([10.0], [10.0]) == (0.0, math.inf)


def test_interquartile_mean_leaves_the_outer_quarters_out() -> None:
    assert interquartile_mean(np.array([1.0, 2, 3, 100])) == pytest.approx(2.5)
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 4, 5, 1000])) == pytest.approx(3)
    assert interquartile_mean(np.array([5.0])) == 5


def test_summary_of_frames_takes_their_own_percentile() -> None:
    launches = [{"median_ms": 10.0 + i, "p90_ms": 20.0 + i} for i in range(7)]
    summary = summarize(launches)
    assert summary is not None
    assert (summary.p50, summary.p90, summary.p90_of, summary.mad) == (13.0, 23.0, "frames", 2.0)
    assert summary.ci95[0] >= 20


def test_p95_stands_in_for_a_missing_p90() -> None:
    summary = summarize([{"median_ms": 10.0, "p95_ms": 12.0}] * 7)
    assert summary is not None and (summary.p90, summary.p90_of) == (12.0, "frames")


def test_without_percentiles_p90_is_over_the_launches() -> None:
    summary = summarize([{"mean_ms": 10.0 + i, "median_ms": None} for i in range(11)])
    assert summary is not None and (summary.p50, summary.p90, summary.p90_of) == (15.0, 19.0, "launches")


@pytest.mark.parametrize("value", [None, 0, -1.0, math.nan, math.inf, "10", True])
def test_values_that_are_no_times_do_not_count(value: object) -> None:
    assert summarize([{"median_ms": value}]) is None


def test_refused_launches_do_not_count() -> None:
    assert summarize([{"median_ms": 1.0, "refused": "implied-flops"}]) is None


def test_ratio_of_equal_launches_is_one() -> None:
    values = [10.0, 11, 10.5, 10.2, 12, 10.1, 10.9]
    assert ratio_interval(values, values) == (1.0, 1.0)
    low, high = ratio_interval(values, [2 * value for value in values])
    assert low == high == pytest.approx(2.0)
    low, high = ratio_interval(values, [*values, 10.4])
    assert low < 1 < high
