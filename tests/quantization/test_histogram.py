"""Histograms count every value once, and refuse what no range fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.quantization.histogram import (
    BINS,
    Histogram,
    Passes,
    collect_histograms,
    load_histograms,
    save_histograms,
)


def passes_over(*pictures: dict[str, np.ndarray]) -> Passes:
    def passes() -> Iterator[tuple[str, np.ndarray]]:
        for tensors in pictures:
            yield from tensors.items()

    return passes


def test_pictures_are_counted_together_between_the_extremes_of_all() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.normal(0, spread, (1, 8, 16, 16)).astype(np.float32) for spread in (1, 3, 2)]
    found = collect_histograms(passes_over(*({"conv": picture} for picture in pictures)))["conv"]
    everything = np.stack(pictures)
    assert (found.low, found.high) == (everything.min(), everything.max())
    expected, edges = np.histogram(everything.astype(np.float64), BINS, (found.low, found.high))
    np.testing.assert_array_equal(found.edges, edges)
    # a value on an edge may be rounded to either side
    assert np.abs(np.cumsum(found.counts) - np.cumsum(expected)).max() <= 1
    assert found.counts.sum() == everything.size
    assert found.counts.dtype == np.int64


def test_zeros_are_not_counted_and_yet_within_the_extremes() -> None:
    found = collect_histograms(passes_over({"relu": np.array([0, 0, 0, 2, 4], np.float32)}))["relu"]
    assert (found.low, found.high) == (0, 4)
    assert found.counts.sum() == 2
    assert found.counts[BINS // 2] == found.counts[BINS - 1] == 1


def test_a_constant_is_in_the_first_bin_and_zeros_alone_in_none() -> None:
    found = collect_histograms(passes_over({"bias": np.full(6, -1.5, np.float32), "dead": np.zeros(6, np.float32)}))
    assert (found["bias"].low, found["bias"].high, found["bias"].counts[0]) == (-1.5, -1.5, 6)
    assert found["bias"].counts.sum() == 6
    assert (found["dead"].low, found["dead"].high, found["dead"].counts.sum()) == (0, 0, 0)


def test_extremes_of_float32_do_not_overflow() -> None:
    largest = float(np.finfo(np.float32).max)
    found = collect_histograms(passes_over({"wide": np.array([-largest, 1, largest], np.float32)}))["wide"]
    assert (found.counts[0], found.counts[BINS // 2], found.counts[-1]) == (1, 1, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_refused_by_its_name(value: float) -> None:
    pictures = passes_over({"a": np.zeros(3)}, {"a": np.zeros(3), "head/b": np.array([0, value, 1], np.float32)})
    with pytest.raises(ConversionError, match=r"head/b has values that are not finite"):
        collect_histograms(pictures)


def test_values_beyond_the_extremes_of_the_first_pass_go_to_the_outer_bins() -> None:
    calls = iter([np.array([1, 3], np.float32), np.array([0.999, 3.001], np.float32)])
    found = collect_histograms(lambda: [("a", next(calls))])["a"]
    assert (found.counts[0], found.counts[-1]) == (1, 1)


def test_a_tensor_in_the_second_pass_only_is_a_mistake() -> None:
    calls = iter(["a", "b"])
    with pytest.raises(ValueError, match="b is in the second pass only"):
        collect_histograms(lambda: [(next(calls), np.ones(2))])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_saved_histograms_come_back_equal_in_order_and_the_same_bytes(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = {f"z{-index}/a;b.npy": Histogram(-0.1, 1 / 3, rng.integers(0, 1 << 40, BINS)) for index in range(count)}
    save_histograms(made, tmp_path / "a.npz")
    save_histograms(made, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = load_histograms(tmp_path / "a.npz")
    assert list(back) == list(made)
    for name, one in made.items():
        assert (back[name].low, back[name].high) == (one.low, one.high)
        np.testing.assert_array_equal(back[name].counts, one.counts)
