"""The page is whole, shows the worst pictures of every contestant, and reads as its numbers are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.evaluate import METRICS, Evaluation, Shown, summarize
from mobile_matting_export.report.evaluation_page import draw_error, format_figure, write_evaluation_page

RNG = np.random.default_rng(0)


@pytest.fixture
def evaluation() -> Evaluation:
    picture = RNG.integers(0, 255, (12, 16, 3), np.uint8)
    truth = np.linspace(0, 1, 12 * 16).reshape(12, 16)
    shown = Shown("set/<one>", picture, truth, (truth * 0.9, truth * 0.5), (0.05, 0.25))
    scores = [{m.name: [0.1 + i, 0.3 + i] for m in METRICS} | {"dtssd": [float("nan")] * 2} for i in range(2)]
    return Evaluation(
        ("a net", "b net"),
        ({}, {}),
        ("cpu", "gpu"),
        ("x", "y"),
        ("set",) * 2,
        frozenset(),
        tuple(scores),
        (shown,),
        ("beware",),
    )


def test_page_holds_the_figures_the_note_and_the_pictures(tmp_path: Path, evaluation: Evaluation) -> None:
    write_evaluation_page(tmp_path / "p.html", "photos", evaluation, summarize(evaluation))
    text = (tmp_path / "p.html").read_text()
    assert "photos" in text and "beware" in text and "2 pictures" in text
    assert all(metric.title in text for metric in METRICS) and "dtSSD" not in text
    assert "set/&lt;one&gt;" in text
    assert text.count("data:image/png;base64") == 2 * 5
    assert "Difference from a net" in text and "+1000.00" in text


def test_page_is_the_same_for_the_same_values(tmp_path: Path, evaluation: Evaluation) -> None:
    for name in ("1.html", "2.html"):
        write_evaluation_page(tmp_path / name, "photos", evaluation, summarize(evaluation))
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_one_contestant_is_compared_with_nobody(tmp_path: Path, evaluation: Evaluation) -> None:
    alone = dataclasses.replace(
        evaluation,
        titles=evaluation.titles[:1],
        sources=evaluation.sources[:1],
        devices=evaluation.devices[:1],
        scores=evaluation.scores[:1],
        worst=(),
    )
    write_evaluation_page(tmp_path / "p.html", "photos", alone, summarize(alone))
    text = (tmp_path / "p.html").read_text()
    assert "Difference from" not in text and "The worst pictures" not in text


@pytest.mark.parametrize(
    ("name", "of", "expected"),
    [
        ("mad", "metrics", ("12.3", "(10.0 to 15.0)")),
        ("mad", "difference", ("+12.34", "(+10.00 to +15.00)")),
        ("iou", "metrics", ("0.012", "(0.010 to 0.015)")),
        ("sad", "difference", ("+0.012", "(+0.010 to +0.015)")),
    ],
)
def test_a_figure_reads_in_its_usual_factor(name: str, of: str, expected: tuple[str, str]) -> None:
    (metric,) = [m for m in METRICS if m.name == name]
    assert format_figure(metric, {"mean": 0.01234, "ci95": [0.01, 0.015]}, of) == expected


@pytest.mark.parametrize(
    ("mean", "ends", "expected"),
    [
        (1e-7, [-1e-7, 3e-7], ("0", "(below 0.0005)")),
        (1e-7, [-0.002, 0.002], ("0", "(-0.002 to +0.002)")),
    ],
)
def test_a_difference_of_nothing_has_no_sign(mean: float, ends: list[float], expected: tuple[str, str]) -> None:
    (iou,) = [m for m in METRICS if m.name == "iou"]
    assert format_figure(iou, {"mean": mean, "ci95": ends}, "difference") == expected


def test_error_is_red_where_kept_blue_where_lost_black_where_right() -> None:
    kept, lost, right = draw_error(np.array([[1.0, -1.0, 0.0]]))[0]
    assert kept[0] == 255 and kept[2] == 0
    assert lost[2] == 255 and lost[0] == 0
    assert right.tolist() == [0, 0, 0]
