"""The table says what was measured, the goal beside it, and marks what misses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.bench_peers import BEGIN, END, PAGE, ROWS, Measured, Rival, Row, find_peers, load_row, main, measure, render
from models.time_in_turns import Ratio

PORTRAITNET, MODNET = ROWS[0], ROWS[-1]
FAST = Rival("litert-torch.fp16", 10.0, 3.0, Ratio(0.3, 0.29, 0.31))
SLOW = Rival("pnnx.fp16", 10.0, 12.0, Ratio(1.2, 1.19, 1.21))


def measured(**changes: object) -> Measured:
    rivals = {"tflite": FAST, "ncnn": SLOW}
    one = Measured(PORTRAITNET, 200, 82, rivals, {"tflite": 1e-5, "ncnn": 2e-4}, 69_597, 0.413, 0.291, 0)
    return replace(one, **changes)  # type: ignore[arg-type]


def cells(one: Measured) -> dict[str, list[str]]:
    titles, _, row, *_ = [[cell.strip() for cell in line.strip("|").split("|")] for line in render([one]).splitlines()]
    assert len(titles) == len(row)
    found: dict[str, list[str]] = {}
    for title, cell in zip(titles, row, strict=True):
        found.setdefault(title, []).append(cell)
    return found


def test_what_meets_its_goal_stands_beside_it_and_what_misses_is_bold() -> None:
    row = cells(measured())
    assert row["network"] == ["`portraitnet_video` 224"]
    assert row["tflite-cpu / best peer (95 %)"] == ["0.300 (0.290-0.310)"]
    assert row["ncnn-cpu / pnnx (95 %)"] == ["**1.200 (1.190-1.210)**"]
    assert row["goal"] == ["0.33", "0.40", "1e-04"]
    assert row["ms"] == ["3.00 / 10.00", "12.00 / 10.00"]
    assert row["peer"] == ["litert-torch.fp16", "pnnx.fp16"]
    assert row["parameters"] == ["69,597 (goal 75,000)"]
    assert row["TFLite MB"] == ["0.413 (goal 0.42)"]
    assert row["max error, TFLite"] == ["1.0e-05"]
    assert row["max error, ncnn"] == ["**2.0e-04**"]
    missed = cells(measured(parameters=80_000, megabytes=0.5))
    assert missed["parameters"] == ["**80,000** (goal 75,000)"]
    assert missed["TFLite MB"] == ["**0.500** (goal 0.42)"]
    assert "200 rounds" in render([measured()])


def test_transposes_are_a_goal_of_one_network_and_a_figure_of_all() -> None:
    assert cells(measured())["TRANSPOSE"] == ["0"]
    assert cells(measured(row=MODNET, transposes=0))["TRANSPOSE"] == ["0 (goal 0)"]
    assert cells(measured(row=MODNET, transposes=2))["TRANSPOSE"] == ["**2** (goal 0)"]


def test_fp32_peers_come_before_fp16_ones_and_int8_is_none(tmp_path: Path) -> None:
    for name in ("one.fp16.tflite", "one.int8.tflite", "pnnx.fp16.param", "pnnx.fp16.bin"):
        (tmp_path / name).write_bytes(b"")
    assert find_peers(tmp_path, "tflite") == {"one.fp16": tmp_path / "one.fp16.tflite"}
    assert find_peers(tmp_path, "ncnn") == {"pnnx.fp16": tmp_path / "pnnx.fp16.param"}
    (tmp_path / "two.fp32.tflite").write_bytes(b"")
    assert find_peers(tmp_path, "tflite") == {"two.fp32": tmp_path / "two.fp32.tflite"}
    assert find_peers(tmp_path / "absent", "ncnn") == {}


def test_the_page_has_the_marks() -> None:
    page = PAGE.read_text()
    assert 0 <= page.index(BEGIN) < page.index(END)


@pytest.mark.parametrize("arguments", [["--rounds", "1"], ["--network", "absent"], ["--write", "--network", "mmnet"]])
def test_what_makes_no_table_is_refused_before_any_work(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.network)
def test_every_row_has_its_weights_and_a_tflite_peer(row: Row, shared: Path, tmp_path: Path) -> None:
    network = load_row(row, shared, tmp_path)
    assert network.size == (row.size, row.size)
    assert find_peers(shared / "peers" / row.peers, "tflite")


@pytest.mark.toolchain
def test_a_short_run_measures_what_the_table_needs(shared: Path) -> None:
    row = next(row for row in ROWS if row.network == "ldn_fb")
    found = measure(row, shared, 3, shared / "data" / "dev" / "eval_natural" / "p3m")
    assert found.pictures > 0
    assert 25_641 < found.parameters < 2 * 25_641  # as published, and the kernels of columns computed together
    assert max(found.errors.values()) <= row.goal.error
    for rival in found.rivals.values():
        assert 0 < rival.ratio.low <= rival.ratio.value <= rival.ratio.high
        assert rival.milliseconds > 0
