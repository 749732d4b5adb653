"""The table of int8 says what was measured beside its goal, marks what misses it, and adds the trade-off there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mobile_matting_export.quantization.score import Score
from models.int8_table import Flicker, Goal, Measured, Missing, Row, misses, render
from models.time_in_turns import Ratio

ROW = Row(
    "net, ours", "net", 64, None, "net", ("mad=0.003,psnr=35", "mad=0.004"), Goal(0.003, 35, {"tflite-cpu": 0.45})
)


def point(layers: int, mad: float | None, chosen: bool = False) -> dict[str, Any]:
    return {
        "float": layers,
        "macs_float": layers / 30,
        "bytes": 40_000 + 1000 * layers,
        "mad": mad,
        "psnr": 38.25,
        "chosen": chosen,
    }


FOUND: dict[str, Any] = {
    "tuned": None,
    "layers_int8": 17,
    "layers_float": [{"weight_bytes": 9_000}, {"weight_bytes": 1_000}, {"weight_bytes": 0}],
    "fp32_bytes": 100_000,
    "points": [point(9, 0.001), point(0, None), point(3, 0.0025, chosen=True)],
}
GOOD = Measured(
    ROW,
    "tflite-cpu",
    "mad=0.003,psnr=35",
    FOUND,
    20,
    Score(0.006, 0.0025, 0.01, 36.04, 0.15, "a.jpg"),
    0.9,
    "onnx2tf.fp32",
    Ratio(0.4, 0.39, 0.41),
    1.5,
    3.75,
    100,
    39_000,
    Flicker(30, 0.55, 1.25, 1.2),
    61.4,
    99.6,
)


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_figure_stands_beside_its_goal() -> None:
    titles, row = rows_of(render([GOOD]))
    assert len(titles) == len(row)
    assert row == [
        *(
            "net, ours 64",
            "tflite-cpu",
            "mad=0.003,psnr=35",
            "-",
            "17 of 20",
            "0.00250",
            "0.003",
            "36.0 dB",
            "35 dB",
            "90 %",
        ),
        *("0.400 (0.390-0.410)", "0.45", "1.50 / 3.75", "onnx2tf.fp32", "0.39", "0.55; 1.25 / 1.20", "61 / 100"),
    ]
    assert "on 20 photographs" in render([GOOD]) and "over 100 rounds" in render([GOOD])
    assert "trade-off" not in render([GOOD]) and "Not made" not in render([GOOD])


@pytest.mark.parametrize(
    ("changes", "missed", "bold"),
    [
        ({"score": replace(GOOD.score, mad=0.0031)}, "mad", "**0.00310**"),
        ({"score": replace(GOOD.score, psnr=34.9)}, "psnr", "**34.9 dB**"),
        ({"used": 1.26}, "budget", "**126 %**"),
        ({"latency": Ratio(0.46, 0.45, 0.47)}, "latency", "**0.460 (0.450-0.470)**"),
        ({"bytes": 40_001}, "file", "**0.40**"),  # 30 kB and the 10 kB of the float layers
    ],
)
def test_what_misses_its_goal_is_bold_and_brings_its_trade_off(changes: dict[str, Any], missed: str, bold: str) -> None:
    one = replace(GOOD, **changes)
    assert misses(one) == {missed}
    table = render([one])
    assert table.count("**") == 2 and bold in table
    assert (
        "- net, ours, tflite-cpu: 0 in float, 0 % of the multiply-adds, 40 kB: MAD ?, worst 38.2 dB; "
        "3 in float, 10 % of the multiply-adds, 43 kB: MAD 0.00250, worst 38.2 dB (taken); 9 in float"
    ) in table


def test_a_wider_budget_than_the_goal_is_bold() -> None:
    assert rows_of(render([replace(GOOD, budget="mad=0.004")]))[1][2] == "**mad=0.004**"


def test_tuning_is_told_in_steps() -> None:
    assert rows_of(render([replace(GOOD, quantization=FOUND | {"tuned": {"steps": 300}})]))[1][3] == "300 steps"


def test_at_the_goal_nothing_is_missed() -> None:
    at = replace(GOOD, score=Score(0.006, 0.003, 0.01, 35, 0.15, "a.jpg"), used=1.25, latency=Ratio(0.45, 0.4, 0.5))
    assert misses(replace(at, bytes=40_000)) == frozenset()


def test_a_target_without_a_latency_goal_misses_none() -> None:
    one = replace(GOOD, target="ncnn-cpu", latency=Ratio(1.5, 1.4, 1.6))
    assert misses(one) == frozenset() and rows_of(render([one]))[1][11] == "-"


def test_what_was_not_made_has_a_row_and_its_reason() -> None:
    table = render([GOOD, Missing(ROW, "ncnn-cpu", "the budget cannot be held")])
    titles, _, row = rows_of(table)
    assert len(row) == len(titles) and row[:4] == ["net, ours 64", "ncnn-cpu", "mad=0.004", "not made"]
    assert "- `net, ours`, ncnn-cpu: the budget cannot be held" in table
