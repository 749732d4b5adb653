"""An evaluation on disk: every picture's scores and the page; nothing of others is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.evaluate import METRICS, Evaluation, Shown, summarize
from mobile_matting_export.write_evaluation import FILES, SCHEMA, require_own, write_evaluation

REPORT, PAGE = FILES


@pytest.fixture
def evaluation() -> Evaluation:
    flat = np.full((4, 4), 0.5, np.float32)
    scores = {metric.name: [0.25, 0.5] for metric in METRICS} | {"dtssd": [float("nan")] * 2}
    return Evaluation(
        titles=("one",),
        sources=({"artifact": "folder", "sha256": "0"},),
        devices=("here",),
        names=("a", "b"),
        clips=("set", "set"),
        films=frozenset(),
        scores=(scores,),
        worst=(Shown("set/b", np.zeros((4, 4, 3), np.uint8), flat, (flat,), (0.5,)),),
        notes=(),
    )


def test_every_pictures_scores_are_written(tmp_path: Path, evaluation: Evaluation) -> None:
    folder = tmp_path / "new" / "folder"
    paths = write_evaluation(folder, "photos", evaluation, summarize(evaluation))
    assert [path.name for path in paths] == list(FILES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    stored = json.loads((folder / REPORT).read_text())
    assert (stored["schema"], stored["data"]) == (SCHEMA, "photos")
    rows = stored["results"][0]["pictures"]
    assert [(row["clip"], row["name"], row["mad"]) for row in rows] == [("set", "a", 0.25), ("set", "b", 0.5)]
    assert "set/b" in (folder / PAGE).read_text()


def test_ours_may_be_replaced_and_neighbours_stay(tmp_path: Path, evaluation: Evaluation) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        require_own(tmp_path)
        write_evaluation(tmp_path, "photos", evaluation, summarize(evaluation))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "text"),
    [(REPORT, '{"mine": 1}'), (REPORT, "[]"), (REPORT, "no JSON"), (PAGE, "<p>mine</p>")],
    ids=["json", "list", "text", "page"],
)
def test_files_of_others_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="choose another --output"):
        require_own(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, evaluation: Evaluation) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_evaluation(tmp_path / "file", "photos", evaluation, summarize(evaluation))
