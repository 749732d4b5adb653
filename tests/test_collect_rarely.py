"""The collector is less busy within the block only."""

from __future__ import annotations

import gc

import pytest

from mobile_matting_export.collect_rarely import collect_rarely


def test_the_thresholds_are_raised_and_come_back() -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        with collect_rarely():
            assert all(now > then for now, then in zip(gc.get_threshold(), (700, 10, 10), strict=True))
        with pytest.raises(ValueError, match="within"), collect_rarely():
            raise ValueError("within")
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.set_threshold(*before)
