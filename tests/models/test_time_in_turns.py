"""Files of any converter are timed in turns, fairly."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.time_in_turns import open_call, ratio, time_in_turns

IMAGE = np.zeros((3, 8, 8), np.float32)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_each_call_is_timed_once_a_round_in_changing_order() -> None:
    order: list[str] = []
    times = time_in_turns({name: lambda name=name: order.append(name) for name in "abc"}, rounds=20)
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 20)
    counted = Counter(order)
    assert counted["a"] == counted["b"] == counted["c"]
    rounds = ["".join(order[-120:][at : at + 6]) for at in range(0, 120, 6)]
    assert len(set(rounds)) > 1
    assert {"".join(sorted(one)) for one in rounds} == {"aabbcc"}


def test_the_clock_counts_work_and_not_waiting() -> None:
    def wait() -> None:
        time.sleep(0.02)

    times = time_in_turns({"work": lambda: burn(0.004), "wait": wait}, rounds=5)
    assert min(times["work"]) >= 4
    assert np.median(times["wait"]) < 2  # milliseconds of twenty slept


def test_a_ratio_is_that_of_the_same_round_with_its_interval() -> None:
    theirs = [1.0, 10.0, 2.0, 5.0]
    found = ratio([0.5 * value for value in theirs], theirs)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    uneven = ratio([0.25, 1.0] * 20, [1.0] * 40)
    assert uneven.value == pytest.approx(0.5)
    assert 0.25 < uneven.low < 0.5 < uneven.high < 1


NCNN = "7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0\n"
OURS = (
    "7767517\n3 3\nInput a 0 1 image 0=8 1=8 2=2\nInput b 0 1 state 0=8 1=8 2=1\nConcat c 2 1 image state alpha 0=0\n"
)


@pytest.mark.parametrize("text", [NCNN, OURS], ids=["one input without a size", "two inputs with sizes"])
def test_an_ncnn_file_runs(tmp_path: Path, text: str) -> None:
    (tmp_path / "net.param").write_text(text)
    (tmp_path / "net.bin").write_bytes(b"")
    result = np.array(open_call(tmp_path / "net.param", IMAGE + 2)())
    assert result.shape == (3, 8, 8)
    assert (result == 2).all()


def test_channels_that_do_not_fit_are_said(tmp_path: Path) -> None:
    (tmp_path / "net.param").write_text(OURS)
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"takes 2 \+ 1 channels, the picture has 4"):
        open_call(tmp_path / "net.param", np.zeros((4, 8, 8), np.float32))
