"""The papers' tables: rows for what is trained, the paper beside ours."""

from __future__ import annotations

from models.results import MMNET_PAPER, mmnet_table

FIGURES = {"grad_mmnet": {"mean": 3.5e-3, "ci95": [3.1e-3, 3.9e-3]}, "mad": {"mean": 0.0321, "ci95": [0.03, 0.035]}}


def test_every_published_row_stands_and_what_is_not_trained_says_so() -> None:
    table = mmnet_table({"mmnet": FIGURES}, "some photos")
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert set(rows) == set(MMNET_PAPER)
    assert rows["mmnet"] == "| `mmnet` | 2.93 | 3.50 (3.10-3.90) | 2.48 | 3.21 (3.00-3.50) |"
    assert rows["mmnet_050"].count("not trained") == 2
    assert "some photos" in table
