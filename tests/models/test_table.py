"""The figures of the table on drawn portraits and random weights, and what is printed of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mobile_matting_export.networks.ldn_fb import LDNFB
from mobile_matting_export.procedural_portraits import make_portrait
from models.ldn_fb import table
from models.ldn_fb.guided_filter import guided_filter

METHODS = ["LDN", "LDN+GF", "LDN+FB"]


def portrait(seed: int, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    picture, alpha = make_portrait(seed, size)
    return picture, np.repeat(np.round(alpha * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def samples() -> list[table.Sample]:
    return [table.make_sample(*portrait(seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def net() -> LDNFB:
    torch.manual_seed(0)
    return LDNFB().eval()


@pytest.fixture(scope="module")
def figures(net, samples) -> dict:
    return table.compute(net, net, {"val": samples, "other": samples[:1]}, choose_on="val", rounds=3)


def test_a_sample_is_averaged_over_areas_and_in_the_networks_range():
    picture = np.zeros((256, 384, 3), np.uint8)
    picture[::2] = 200  # every pixel of the table averages as many bright rows as dark ones
    sample = table.make_sample(picture, picture)
    assert sample.image.shape == (1, 3, 128, 128) and sample.guide.shape == (128, 128, 3)
    np.testing.assert_allclose(sample.guide, 100 / 255, atol=1e-6)
    np.testing.assert_allclose(sample.truth, 100 / 255, atol=1e-6)
    np.testing.assert_allclose(sample.image.numpy(), 100 / 127.5 - 1, atol=1e-6)


def test_the_methods_are_the_two_outputs_of_the_network_and_the_filter(net, samples):
    with torch.no_grad():
        seg, alpha, *_ = net(samples[0].image)
    np.testing.assert_array_equal(table.dense(net, samples[0]), seg[0, 1].numpy())
    np.testing.assert_array_equal(table.feathered(net, samples[0]), alpha[0, 0].clamp(0, 1).numpy())
    by_hand = guided_filter(seg[0, 1].numpy(), samples[0].guide, 4, 1e-3).clip(0, 1)
    np.testing.assert_array_equal(table.filtered(net, 4, 1e-3, samples[0]), by_hand)


def test_the_filter_chosen_has_the_least_error_of_the_grid(net, samples):
    radius, eps, grid = table.choose_filter(net, samples)
    assert len(grid) == len(table.RADII) * len(table.EPSILONS)
    assert grid[f"radius {radius}, eps {eps:g}"] == min(grid.values())
    scored = table.score(lambda sample: table.filtered(net, radius, eps, sample), samples)
    assert np.mean(scored["mse"]) == pytest.approx(min(grid.values()))


def test_the_truth_scores_no_error_and_an_empty_matte_its_mean(samples):
    perfect = table.score(lambda sample: sample.truth, samples)
    assert perfect == {"mad": [0, 0], "mse": [0, 0], "grad_fdm": [0, 0], "iou": [1, 1]}
    empty = table.score(lambda sample: np.zeros_like(sample.truth), samples)
    assert empty["mad"] == pytest.approx([float(sample.truth.mean()) for sample in samples])
    assert empty["iou"] == [0, 0]


def test_a_ratio_is_of_means_and_its_interval_draws_pairs():
    # the pairs have one ratio each: the interval has no width however differently the pairs count
    value, ci = table.ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (value, *ci) == pytest.approx((2.0, 2.0, 2.0))
    value, (low, high) = table.ratio([1.0, 3.0, 5.0], [2.0, 2.0, 2.0])
    assert value == pytest.approx(1.5)
    assert low == pytest.approx(0.5) and high == pytest.approx(2.5)


def test_a_ratio_of_medians_ignores_one_wild_round():
    wild = [2.0] * 20 + [1000.0]
    assert table.ratio(wild, [1.0] * 21, np.median) == (2.0, (2.0, 2.0))


def test_rounds_are_interleaved_over_methods_and_pictures(samples):
    calls = []
    methods = {name: lambda sample, name=name: calls.append((name, id(sample))) for name in METHODS}
    times = table.time_methods(methods, samples, rounds=4)
    assert [name for name, _ in calls] == METHODS * (4 + table.WARM_UP)
    counted = calls[-12:]
    assert [which for _, which in counted] == [id(samples[i % 2]) for i in range(4) for _ in METHODS]
    assert {name: len(own) for name, own in times.items()} == dict.fromkeys(METHODS, 4)
    assert min(min(own) for own in times.values()) >= 0


def test_one_network_for_both_compares_its_own_two_outputs(figures, net, samples):
    val = figures["sets"]["val"]
    assert val["images"] == 2 and figures["sets"]["other"]["images"] == 1
    assert list(val["mean"]) == METHODS == list(figures["times"])
    own = table.score(lambda sample: table.dense(net, sample), samples)
    assert val["mean"]["LDN"]["mse"] == pytest.approx(np.mean(own["mse"]))
    for name, one in val["ldn_over_ldn_fb"].items():
        assert one["ratio"] == pytest.approx(val["mean"]["LDN"][name] / val["mean"]["LDN+FB"][name])
        assert one["ci95"][0] <= one["ratio"] <= one["ci95"][1]
    assert figures["times"]["LDN"]["to_ldn"] == 1.0 and figures["times"]["LDN"]["rounds"] == 3


def test_the_table_shows_the_papers_figures_beside_ours(figures):
    text = table.render(figures)
    lines = text.splitlines()
    assert "| LDN | 27 |" in text and "| LDN+GF | 236 |" in text and "| LDN+FB | 38 |" in text
    assert {line.count("|") for line in lines[:5]} == {lines[0].count("|")}, "every row has every column"
    assert "| Grad | 2.37 |" in text and "| MSE | 3.44 |" in text and "| MAD | - |" in text
    assert f"{1e3 * figures['sets']['other']['mean']['LDN+GF']['mse']:.2f}" in text
    assert "E5-2660" in text and "only the ratios" in text
    assert f"radius {figures['guided_filter']['radius']}, eps" in text


def test_the_command_prints_the_table_and_writes_its_figures(tmp_path: Path, net, capsys):
    for folder, seed in (("train", 0), ("dev/eval_natural_soft", 1)):
        picture, alpha = portrait(seed, 64)
        for kind, pixels, suffix in (("image", picture, "jpg"), ("alpha", alpha[..., 0], "png")):
            place = tmp_path / folder / kind
            place.mkdir(parents=True)
            Image.fromarray(pixels).save(place / f"00001.{suffix}")
    (tmp_path / "train/val.txt").write_text("00001\n")
    weights, written = tmp_path / "ldn.safetensors", tmp_path / "out/table.json"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, weights)
    table.main(
        ["--ldn", str(weights), "--fb", str(weights), "--data", str(tmp_path), "--rounds", "2", "--json", str(written)]
    )
    figures = json.loads(written.read_text())
    assert capsys.readouterr().out == table.render(figures) + "\n"
    assert list(figures["sets"]) == ["val", "eval_natural_soft"]
    assert len(figures["weights"]["ldn"]["sha256"]) == 64
