"""Evaluation: contestants paired picture by picture, state fed back in films, notes where a figure misleads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobile_matting_export import metrics
from mobile_matting_export.contestant import Contestant
from mobile_matting_export.data_set import read_data_set
from mobile_matting_export.errors import QualityError, UsageError
from mobile_matting_export.evaluate import DTSSD, METRICS, ONE_CLIP_NOTE, evaluate, summarize
from mobile_matting_export.images import to_input
from mobile_matting_export.networks.spec import ImageSpec

SIZE = (24, 32)
SPEC = ImageSpec()


def brightness(gain: float = 1.0, title: str = "grey", fed_back: tuple[str, ...] = ()) -> Contestant:
    """A network that takes how bright a pixel is for its alpha, and adds a tenth of the last alpha."""

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        alpha = inputs["image"].mean(axis=1, keepdims=True) * gain
        return {"alpha": alpha + 0.1 * inputs["before"] if "before" in inputs else alpha}

    def first(picture: np.ndarray) -> dict[str, np.ndarray]:
        inputs = {"image": to_input(picture, SPEC, SIZE)}
        return inputs | {name: np.zeros((1, 1, *SIZE), np.float32) for name in fed_back}

    return Contestant(title, {"artifact": title}, "here", SPEC, first, run, dict.fromkeys(fed_back, "alpha"))


@pytest.fixture
def greys(tmp_path: Path) -> Path:
    """Six grey pictures whose mattes are the pictures themselves."""
    rng = np.random.default_rng(1)
    for kind in ("image", "alpha"):
        (tmp_path / kind).mkdir()
    for index in range(6):
        values = rng.integers(20, 200, SIZE, np.uint8)
        Image.fromarray(np.stack([values] * 3, axis=-1)).save(tmp_path / "image" / f"f{index}.png")
        Image.fromarray(values).save(tmp_path / "alpha" / f"f{index}.png")
    return tmp_path


def test_a_perfect_contestant_scores_nothing_wrong(greys: Path) -> None:
    evaluation = evaluate([brightness()], read_data_set(greys, "stills"))
    (row,) = summarize(evaluation)
    for metric in METRICS:
        assert row["metrics"][metric.name]["mean"] == pytest.approx(1.0 if metric.better > 0 else 0.0, abs=1e-6)
    assert "dtssd" not in row["metrics"]
    assert row["images"] == 6 and "difference" not in row


def test_scores_are_those_of_the_metrics_on_the_same_mattes(greys: Path) -> None:
    evaluation = evaluate([brightness(0.5)], read_data_set(greys, "stills"))
    truth = np.asarray(Image.open(greys / "alpha" / "f2.png")) / 255
    for metric in METRICS:
        expected = metric.score(truth * 0.5, truth)
        assert evaluation.scores[0][metric.name][2] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_differences_are_paired(greys: Path) -> None:
    first, second = summarize(evaluate([brightness(0.5), brightness(0.6)], read_data_set(greys, "stills")))
    figure = second["difference"]["mad"]
    expected = second["metrics"]["mad"]["mean"] - first["metrics"]["mad"]["mean"]
    assert figure["mean"] == pytest.approx(expected)
    low, high = figure["ci95"]
    assert low <= figure["mean"] <= high < 0
    wide = first["metrics"]["mad"]["ci95"]
    assert high - low < wide[1] - wide[0], "pictures that are hard for both do not widen the difference"


def test_a_film_feeds_the_last_alpha_back_and_scores_flicker(greys: Path) -> None:
    clips = read_data_set(greys, "sequence")
    evaluation = evaluate([brightness(0.8, fed_back=("before",))], clips)
    flicker = evaluation.scores[0][DTSSD.name]
    assert math.isnan(flicker[0]) and all(value > 0 for value in flicker[1:])
    alone = evaluate([brightness(0.8)], read_data_set(greys, "stills"))
    assert evaluation.scores[0]["mad"][0] == pytest.approx(alone.scores[0]["mad"][0])
    assert evaluation.scores[0]["mad"][1] != pytest.approx(alone.scores[0]["mad"][1], rel=0.1)
    assert summarize(evaluation)[0]["metrics"]["dtssd"]["mean"] == pytest.approx(np.mean(flicker[1:]))


def test_dtssd_of_a_film_is_the_metrics_own(greys: Path) -> None:
    evaluation = evaluate([brightness(0.5)], read_data_set(greys, "sequence"))
    truths = [np.asarray(Image.open(greys / "alpha" / f"f{i}.png")) / 255 for i in range(6)]
    expected = metrics.dtssd([truth * 0.5 for truth in truths], truths)
    assert summarize(evaluation)[0]["metrics"]["dtssd"]["mean"] == pytest.approx(expected, rel=1e-4)


def test_one_film_says_that_its_interval_is_its_own(greys: Path) -> None:
    notes = evaluate([brightness()], read_data_set(greys, "sequence")).notes
    assert "read as a film of 6 frames" in notes[0] and notes[1] == ONE_CLIP_NOTE
    assert evaluate([brightness()], read_data_set(greys, "stills")).notes == ()


def test_binary_truth_is_said(greys: Path) -> None:
    for path in sorted((greys / "alpha").iterdir())[:4]:
        Image.fromarray((np.asarray(Image.open(path)) > 99).astype(np.uint8) * 255).save(path)
    (note,) = evaluate([brightness()], read_data_set(greys, "stills")).notes
    assert note.startswith("4 of 6 true mattes are binary")


def test_the_worst_pictures_come_first(greys: Path) -> None:
    Image.new("L", SIZE[::-1], 255).save(greys / "alpha" / "f4.png")
    evaluation = evaluate([brightness(), brightness(0.9)], read_data_set(greys, "stills"), worst=2)
    assert len(evaluation.worst) == 2 and evaluation.worst[0].name.endswith("/f4")
    assert len(evaluation.worst[0].mattes) == 2
    assert evaluation.titles == ("grey", "grey (2)")


def test_values_that_are_no_numbers_stop_it(greys: Path) -> None:
    with pytest.raises(QualityError, match="not numbers"):
        evaluate([brightness(math.nan)], read_data_set(greys))


def test_films_are_the_unit_where_there_are_several(greys: Path, tmp_path: Path) -> None:
    for name in ("s0", "s1"):
        (tmp_path / "films" / name).mkdir(parents=True)
        for kind in ("image", "alpha"):
            (tmp_path / "films" / name / kind).symlink_to(greys / kind)
    row = summarize(evaluate([brightness(0.5)], read_data_set(tmp_path / "films", "sequence")))[0]
    # two equal films: drawing films changes nothing
    assert row["metrics"]["mad"]["ci95"] == pytest.approx([row["metrics"]["mad"]["mean"]] * 2)


def test_the_cards_score_at_input_size_needs_no_resizing_of_alpha(greys: Path) -> None:
    from models.training.model_card import score_at_input_size

    scores = score_at_input_size(brightness(), read_data_set(greys, "stills"))
    # pictures, truths and the network's input are of one size here: a perfect contestant stays perfect
    assert [name.rpartition("/")[2] for name in scores["mad"]] == [f"f{i}" for i in range(6)]
    assert max(scores["mad"].values()) < 1e-6 and min(scores["iou"].values()) == 1.0


def test_the_cards_score_leaves_the_bars_of_a_letterbox_out(greys: Path) -> None:
    from models.training.model_card import score_at_input_size

    spec = ImageSpec(resize="letterbox", fill=128)
    wide = brightness()
    square = Contestant(
        wide.title, {}, "", spec, lambda picture: {"image": to_input(picture, spec, (32, 32))}, wide.run, {}
    )
    scores = score_at_input_size(square, read_data_set(greys, "stills"))
    assert max(scores["mad"].values()) < 1e-6 and min(scores["iou"].values()) == 1.0


def test_dtssd_averages_over_frames_then_over_films(tmp_path: Path) -> None:
    # one film flickers in each of its two steps, the other in none of its eight
    for name, frames in (("s0", 3), ("s1", 9)):
        for kind in ("image", "alpha"):
            (tmp_path / name / kind).mkdir(parents=True)
        for index in range(frames):
            grey = 80 if name == "s1" or index % 2 else 120
            Image.new("RGB", SIZE[::-1], (grey,) * 3).save(tmp_path / name / "image" / f"{index}.png")
            Image.new("L", SIZE[::-1], 80).save(tmp_path / name / "alpha" / f"{index}.png")
    figure = summarize(evaluate([brightness()], read_data_set(tmp_path, "sequence")))[0]["metrics"]["dtssd"]
    assert figure["mean"] == pytest.approx(100 * 40 / 255 / 2, rel=1e-5)
    assert figure["images"] == 10


def test_few_pictures_make_no_sure_interval(greys: Path) -> None:
    for path in (*(greys / "image").glob("f[3-5]*"), *(greys / "alpha").glob("f[3-5]*")):
        path.unlink()
    assert "fewer than 5" in evaluate([brightness()], read_data_set(greys)).notes[0]


def test_a_matte_of_another_aspect_is_refused(greys: Path) -> None:
    Image.new("L", (30, 30), 99).save(greys / "alpha" / "f3.png")
    with pytest.raises(UsageError, match=r"f3\.png is 30x30 and f3\.png 32x24"):
        evaluate([brightness()], read_data_set(greys, "stills"))


def test_a_matte_of_another_size_but_the_same_aspect_is_scored(greys: Path) -> None:
    truth = Image.open(greys / "alpha" / "f3.png").resize((64, 48), Image.Resampling.BILINEAR)
    truth.save(greys / "alpha" / "f3.png")
    evaluation = evaluate([brightness()], read_data_set(greys, "stills"))
    assert evaluation.scores[0]["mad"][3] < 0.01


def test_a_film_whose_mattes_change_size_names_the_frame(greys: Path) -> None:
    Image.new("L", (64, 48), 99).save(greys / "alpha" / "f3.png")
    with pytest.raises(UsageError, match=r"f3\.png is 64x48"):
        evaluate([brightness()], read_data_set(greys, "sequence"))


def test_a_film_among_stills_is_one_unit_and_each_still_its_own(greys: Path, tmp_path: Path) -> None:
    for name in ("stills", "film"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        for kind in ("image", "alpha"):
            (tmp_path / "mixed" / name / kind).symlink_to(greys / kind)
    clips = [read_data_set(tmp_path / "mixed" / "film", "sequence")[0], read_data_set(tmp_path / "mixed" / "stills")[0]]
    evaluation = evaluate([brightness(0.5)], [clips[0], dataclasses.replace(clips[1], consecutive=False)])
    units = ["film"] * 6 + [f"stills/f{i}" for i in range(6)]
    assert summarize(evaluation) == summarize(evaluation, units)
