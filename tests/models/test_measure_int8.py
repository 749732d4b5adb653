"""The rows are those of the issue, and wrong wishes are refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.quantization.budget import parse_budget
from mobile_matting_export.targets import find_target
from models import measure_int8
from models.int8_table import Missing
from models.measure_int8 import BEGIN, END, ROWS, TARGETS, main, measure

SHARED = Path(__file__).resolve().parents[3] / "shared"


def test_the_first_budget_of_every_row_is_within_its_goal_and_others_are_wider() -> None:
    for row in ROWS:
        first, *others = (parse_budget(budget).limits for budget in row.budgets)
        assert first["mad"] <= row.goal.mad and first["psnr"] >= row.goal.psnr, row.title
        assert all(one["mad"] > first["mad"] and one["psnr"] < first["psnr"] for one in others), row.title


def test_rows_are_told_apart_and_goals_are_of_known_targets() -> None:
    assert len({row.title for row in ROWS}) == len(ROWS)
    assert all(set(row.goal.latency) <= set(TARGETS) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_weights_and_peers_are_where_a_row_says(row: measure_int8.Row) -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the folder shared/ beside the checkout")
    assert row.weights is None or (SHARED / row.weights).is_file()
    assert (SHARED / "peers" / row.peers).is_dir()


def test_a_target_without_int8_is_told_and_costs_nothing(tmp_path: Path) -> None:
    found = measure(ROWS[0], "tflite-gpu", tmp_path, 2)
    assert "int8" not in find_target("tflite-gpu").limits
    assert isinstance(found, Missing) and "int8 is not offered" in found.reason


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "nosuch"], "no such network; known: mmnet, segmatting"),
        (["--write", "--only", "ldn_fb"], "drop --only and --target"),
        (["--rounds", "1"], "an interval needs two"),
    ],
)
def test_wrong_wishes_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_the_table_goes_between_the_marks_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.setattr(measure_int8, "PAGE", page)
    monkeypatch.setattr(
        measure_int8, "measure", lambda row, target, shared, rounds, tune: Missing(row, target, "no reason")
    )
    main(["--write"])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("no reason") == len(ROWS) * len(TARGETS)
    assert capsys.readouterr().out.strip() in text


def test_a_page_without_marks_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "results.md"
    page.write_text("nothing here\n")
    monkeypatch.setattr(measure_int8, "PAGE", page)
    monkeypatch.setattr(measure_int8, "measure", lambda *given: pytest.fail("measured"))
    with pytest.raises(SystemExit):
        main(["--write"])
    assert BEGIN in capsys.readouterr().err
