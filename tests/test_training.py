"""The recipes learn on drawn portraits, go on from a checkpoint, and export what the networks load."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mobile_matting_export.networks.ldn_fb import LDNFB
from mobile_matting_export.networks.mmnet import MMNet
from mobile_matting_export.procedural_portraits import make_portrait
from models.ldn_fb.train import RECIPE as LDN_FB_RECIPE
from models.ldn_fb.train import ldn_fb_loss, ldn_fb_matte
from models.mmnet.train import RECIPE as MMNET_RECIPE
from models.mmnet.train import QuarterScores, mmnet_loss, mmnet_matte
from models.training.augment import Augmenter, Variation
from models.training.evaluate import score
from models.training.export import export_weights
from models.training.loop import Stage, learning_rate, mean_iou, train
from models.training.model_card import BEGIN, END, interval, rewrite_card
from models.training.portraits import Portraits, empty_patches, from_arrays

SIZE = 64
STILL = Variation(rotation_degrees=0.0, aspect=0.0, shift=0.0, background_share=0.0, distant_share=0.0)


@pytest.fixture(scope="module")
def drawn() -> Portraits:
    made = [make_portrait(seed, SIZE) for seed in range(4)]
    mattes = [np.round(alpha * 255).astype(np.uint8) for _, alpha in made]
    return from_arrays(tuple("abcd"), [image for image, _ in made], mattes)


def augmenter_of(portraits: Portraits, variation: Variation = STILL) -> Augmenter:
    patches = empty_patches(portraits, np.random.default_rng(0))
    return Augmenter(portraits.image, portraits.alpha, patches, variation, seed=0)


@pytest.mark.parametrize(
    ("build", "loss"),
    [(lambda: QuarterScores(MMNet()), mmnet_loss), (LDNFB, ldn_fb_loss)],
    ids=["mmnet", "ldn_fb"],
)
def test_three_steps_lower_the_loss(drawn, build, loss):
    torch.manual_seed(0)
    net = build().train()
    image, alpha = augmenter_of(drawn).batch(4, SIZE, (1.0, 1.0))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    values = []
    for _ in range(4):
        optimizer.zero_grad()
        value = loss(net, image, alpha)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[3] < values[0]


@pytest.mark.parametrize(
    ("recipe", "build", "loss", "matte"),
    [
        (MMNET_RECIPE, lambda: QuarterScores(MMNet()), mmnet_loss, mmnet_matte),
        (LDN_FB_RECIPE, LDNFB, ldn_fb_loss, ldn_fb_matte),
    ],
    ids=["mmnet", "ldn_fb"],
)
def test_a_recipe_trains_within_its_time_and_goes_on_from_its_checkpoint(
    drawn, tmp_path: Path, recipe, build, loss, matte
):
    torch.manual_seed(0)
    small = dataclasses.replace(recipe, stages=(Stage(until=1.0, size=SIZE, batch=2, zoom=(1.0, 1.2)),))
    checkpoint = tmp_path / "run.pt"
    trained, first = train(small, build(), loss, matte, augmenter_of(drawn), None, 0.5, checkpoint)
    assert first.steps >= 1 and first.seconds >= 0.5
    again, second = train(small, build(), loss, matte, augmenter_of(drawn), None, 0.5, checkpoint)
    assert second == first, "the time was spent, so nothing is left to do"
    for key, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert 0.0 <= mean_iou(matte, again, drawn, SIZE) <= 1.0


def test_scores_before_the_upsampling_equal_the_published_order():
    torch.manual_seed(0)
    net = MMNet().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    image = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        published = net(image)
        (quick,) = QuarterScores(net).eval()(image)
    assert torch.allclose(published, quick, atol=1e-5)


def test_learning_rate_rises_then_ends_at_zero():
    rates = [learning_rate(MMNET_RECIPE, share) for share in (0.0, 0.015, 0.03, 0.5, 1.0)]
    assert rates[0] == 0.0
    assert rates[2] == pytest.approx(MMNET_RECIPE.peak_rate)
    assert rates[1] == pytest.approx(MMNET_RECIPE.peak_rate / 2)
    assert 0 < rates[3] < rates[2]
    assert rates[4] == pytest.approx(0.0)


def test_a_still_variation_at_full_size_only_mirrors_the_matte(drawn):
    _, alpha = augmenter_of(drawn).batch(4, SIZE, (1.0, 1.0))
    originals = drawn.alpha.float() / 255
    candidates = torch.cat((originals, originals.flip(-1)))
    for one in alpha:
        assert (candidates - one).abs().amax(dim=(1, 2, 3)).min() < 1e-4


def test_a_varied_batch_is_finite_in_range_and_repeats_with_its_seed(drawn):
    first = augmenter_of(drawn, Variation(background_share=1.0)).batch(6, 48, (0.9, 2.0))
    second = augmenter_of(drawn, Variation(background_share=1.0)).batch(6, 48, (0.9, 2.0))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
        assert one.min() >= 0 and one.max() <= 1
    assert first[0].shape == (6, 3, 48, 48) and first[1].shape == (6, 1, 48, 48)


def test_empty_patches_show_no_person(drawn):
    # a red person before a black background: a patch must hold no red
    red = drawn.alpha * torch.tensor([1, 0, 0], dtype=torch.uint8)[:, None, None]
    patches = empty_patches(Portraits(drawn.names, red, drawn.alpha), np.random.default_rng(0))
    assert len(patches) > 0
    assert patches.max() <= 8


def test_exported_weights_are_half_precision_and_load_into_the_network(tmp_path: Path):
    torch.manual_seed(0)
    net = MMNet()
    path = tmp_path / "weights.safetensors"
    export_weights(net, path, {"network": "mmnet"})
    tensors = load_file(path)
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    other = MMNet()
    missing = other.load_state_dict(tensors, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing)
    assert torch.equal(
        other.final_block.pointwise_conv["conv"].weight, tensors["final_block.pointwise_conv.conv.weight"].float()
    )


# the golden matte of the metrics notes: a wavy disc with a soft edge
Y, X = np.mgrid[0:48, 0:64].astype(float)
DISC = 15 - np.hypot(1.25 * (X - 31.5), Y - 26) + 1.5 * np.sin(6 * np.arctan2(Y - 26, X - 31.5))
GOLDEN = np.floor(255 * np.clip(DISC / 6 + 0.5, 0, 1) + 0.5)


@pytest.mark.parametrize(
    ("predicted", "mad", "mse", "iou", "grad_fdm"),
    [
        (GOLDEN, 0.0, 0.0, 1.0, 0.0),
        (np.floor(0.8 * GOLDEN + 0.5), 0.037492, 0.006517, 0.884211, 0.005983),
        (GOLDEN[:, np.r_[0, 0:63]], 0.020724, 0.003406, 0.896839, 0.011077),
        (np.where(np.hypot(X - 31.5, Y - 28) < 4, 0, GOLDEN), 0.015625, 0.015625, 0.915789, 0.008622),
    ],
    ids=["identity", "scale0.8", "shift1", "hole"],
)
def test_scores_equal_the_golden_values(predicted, mad, mse, iou, grad_fdm):
    got = score(predicted / 255, GOLDEN / 255)
    assert (got.mad, got.mse, got.iou, got.grad_fdm) == pytest.approx((mad, mse, iou, grad_fdm), abs=1e-6)


def test_an_interval_over_one_group_has_no_width_and_over_two_spans_them():
    assert interval([0.0, 1.0], ["a", "a"]) == (0.5, 0.5)
    assert interval([0.0, 1.0], ["a", "b"]) == (0.0, 1.0)


def test_a_card_keeps_its_text_and_gets_the_figures():
    one = {"images": 2, "iou": {"mean": 0.9, "ci95": [0.85, 0.95]}}
    sets = {name: one for name in ("eval_natural/eg1800", "eval_natural_soft", "eval_composite", "sequence/s0")}
    weights = {"file": "w.safetensors", "bytes": 1234, "sha256": "ab"}
    figures = {"network": "n", "size": [8, 8], "parameters": 10, "weights": weights, "sets": sets}
    card = rewrite_card(f"above\n{BEGIN}\nold\n{END}\nbelow\n", figures)
    assert card.startswith("above\n") and card.endswith("below\n")
    assert "old" not in card
    assert "0.900 (0.850-0.950)" in card and "1,234 bytes" in card
    assert rewrite_card(card, figures) == card


def test_a_card_without_marks_is_refused():
    with pytest.raises(ValueError, match="lacks the lines"):
        rewrite_card("no marks", {})
