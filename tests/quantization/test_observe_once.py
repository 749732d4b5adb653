"""Observing takes two passes the first time and none the second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.quantization.observe_once import observe_once
from mobile_matting_export.result_cache import ResultCache


class Model:
    """Yields one tensor; counts how often it is run."""

    def __init__(self, *values: float) -> None:
        self.values = np.array(values, np.float32)
        self.runs = 0

    def passes(self) -> Iterator[tuple[str, np.ndarray]]:
        self.runs += 1
        yield "conv", self.values


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    paths = (tmp_path / "net.param", tmp_path / "net.bin")
    for path in paths:
        path.write_text(path.name)
    return paths


def test_the_same_files_and_pictures_are_observed_once(files: tuple[Path, ...], tmp_path: Path) -> None:
    cache, model = ResultCache(tmp_path / "cache"), Model(-0.3, 1 / 3, 0.1)
    first = observe_once(cache, files, "pictures", model.passes)
    again = observe_once(cache, files, "pictures", model.passes)
    assert model.runs == 2
    assert list(again) == ["conv"]
    assert (again["conv"].low, again["conv"].high) == (first["conv"].low, first["conv"].high)
    np.testing.assert_array_equal(again["conv"].counts, first["conv"].counts)


@pytest.mark.parametrize("number", [0, 1])
def test_other_files_or_pictures_are_observed_anew(number: int, files: tuple[Path, ...], tmp_path: Path) -> None:
    cache, model = ResultCache(tmp_path / "cache"), Model(1)
    observe_once(cache, files, "pictures", model.passes)
    observe_once(cache, files, "other pictures", model.passes)
    assert model.runs == 4
    files[number].write_text("other weights")
    observe_once(cache, files, "pictures", model.passes)
    assert model.runs == 6


def test_without_a_cache_every_call_observes(files: tuple[Path, ...]) -> None:
    model = Model(1, 2)
    for _ in range(2):
        assert observe_once(None, files, "pictures", model.passes)["conv"].high == 2
    assert model.runs == 4


def test_a_refusal_is_not_kept(files: tuple[Path, ...], tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(ConversionError, match="not finite"):
            observe_once(cache, files, "pictures", Model(np.nan).passes)
    assert not cache.folder.exists()
