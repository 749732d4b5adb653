"""The recipes learn on drawn portraits, go on from a checkpoint, and export what the networks load."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from mobile_matting_export.networks.ldn_fb import LDNFB
from mobile_matting_export.networks.mmnet import MMNet
from mobile_matting_export.procedural_portraits import make_portrait
from models.ldn_fb.train import DENSE, FEATHERING, PICTURES, TrainingStage
from models.ldn_fb.train import STAGES as LDN_FB_STAGES
from models.ldn_fb.train import main as train_ldn_fb
from models.mmnet.train import RECIPE as MMNET_RECIPE
from models.mmnet.train import QuarterScores, mmnet_loss, mmnet_matte
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.loop import Progress, Stage, learning_rate, mean_iou, train
from models.training.model_card import ROOT, SETS, table
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
    [(lambda: QuarterScores(MMNet()), mmnet_loss), *((LDNFB, stage.loss) for stage in LDN_FB_STAGES)],
    ids=["mmnet", *(f"ldn_fb_{stage.name}" for stage in LDN_FB_STAGES)],
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
        *((stage.recipe, LDNFB, stage.loss, stage.matte) for stage in LDN_FB_STAGES),
    ],
    ids=["mmnet", *(f"ldn_fb_{stage.name}" for stage in LDN_FB_STAGES)],
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


by_stage = pytest.mark.parametrize("stage", LDN_FB_STAGES, ids=lambda stage: stage.name)


def short_run(stage: TrainingStage, drawn: Portraits, seconds: float) -> tuple[LDNFB, nn.Module]:
    """A network as it was, and as ``stage`` trained it for a while on small pictures."""
    torch.manual_seed(0)
    net = LDNFB()
    before = copy.deepcopy(net)
    stage.freeze_others(net)
    small = dataclasses.replace(
        stage.recipe, stages=(Stage(until=1.0, size=SIZE, batch=4, zoom=(1.0, 1.0)),), average_decay=0.5
    )
    trained, _ = train(small, net, stage.loss, stage.matte, augmenter_of(drawn), None, seconds)
    return before, trained


@by_stage
def test_a_stage_of_ldn_fb_lowers_its_loss_and_moves_only_what_it_names(drawn, stage):
    before, trained = short_run(stage, drawn, seconds=1.0)
    image, alpha = augmenter_of(drawn).batch(4, SIZE, (1.0, 1.0))
    with torch.no_grad():
        assert stage.loss(trained, image, alpha) < stage.loss(before, image, alpha)
    after = trained.state_dict()
    moved = {key.partition(".")[0] for key, value in before.state_dict().items() if not torch.equal(value, after[key])}
    assert moved == set(stage.learns)


def test_the_stages_of_ldn_fb_train_the_paper_parts_in_turn():
    layers = {name.partition(".")[0] for name, _ in LDNFB().named_parameters()}
    assert {*DENSE, *FEATHERING} == layers
    assert [set(stage.learns) for stage in LDN_FB_STAGES] == [{*DENSE}, {*FEATHERING}, layers]
    assert [stage.after for stage in LDN_FB_STAGES] == [None, *(stage.name for stage in LDN_FB_STAGES[:-1])]


@by_stage
def test_a_stage_of_ldn_fb_is_scored_by_what_it_trains(stage):
    torch.manual_seed(0)
    net = LDNFB().eval()
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        seg, alpha, *_ = net(image * 2 - 1)
        expected = seg[:, 1:2] if stage.name == "segment" else alpha.clamp(0, 1)
        assert torch.equal(stage.matte(net, image), expected)


@pytest.mark.parametrize("name", PICTURES)
def test_ldn_fb_learns_from_the_pictures_it_is_told_to(drawn, tmp_path: Path, monkeypatch, name):
    given = []

    def remember(recipe, net, loss, matte, augmenter, *rest):
        given.append((recipe.stages[0].zoom, augmenter.variation))
        return net, Progress(validation_iou=0.0)

    monkeypatch.setattr("models.ldn_fb.train.train", remember)
    monkeypatch.setattr("models.ldn_fb.train.load_portraits", lambda data, ids: drawn)
    monkeypatch.setattr("models.ldn_fb.train.export_weights", lambda net, output, metadata: given.append(output.name))
    train_ldn_fb(["--stage", "segment", "--pictures", name])
    assert given[0] == (PICTURES[name].zoom, PICTURES[name].variation)
    assert given[1] == {"varied": "ldn_fb_segment.safetensors", "usual": "ldn_fb_segment_usual.safetensors"}[name]


def test_a_later_stage_of_ldn_fb_without_weights_to_start_from_is_refused(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        train_ldn_fb(["--stage", "feather", "--start", str(tmp_path / "none.safetensors")])
    assert "train the stage before" in capsys.readouterr().err


def test_a_stage_of_ldn_fb_runs_from_files_to_a_file_and_the_next_starts_from_it(drawn, tmp_path: Path, monkeypatch):
    # a clock of its own: on a busy machine the first step, whose rate is 0, could use the time up
    tenths = itertools.count()
    monkeypatch.setattr("models.training.loop.time", SimpleNamespace(monotonic=lambda: next(tenths) / 10))
    for kind, suffix, maps in (("image", "jpg", drawn.image), ("alpha", "png", drawn.alpha)):
        (tmp_path / kind).mkdir()
        for name, one in zip(drawn.names, maps, strict=True):
            Image.fromarray(one.permute(1, 2, 0).numpy().squeeze()).save(tmp_path / kind / f"{name}.{suffix}")
    for part in ("train", "val"):
        (tmp_path / f"{part}.txt").write_text("\n".join(drawn.names))
    start: list[str] = []
    for stage in LDN_FB_STAGES[:2]:
        output = tmp_path / f"{stage.name}.safetensors"
        files = ["--data", str(tmp_path), "--output", str(output), "--checkpoint", str(tmp_path / f"{stage.name}.pt")]
        train_ldn_fb(["--stage", stage.name, "--minutes", "0.01", "--peak-rate", "1e-3", *files, *start])
        start = ["--start", str(output)]
    first, second = (load_file(tmp_path / f"{stage.name}.safetensors") for stage in LDN_FB_STAGES[:2])
    same = {key.partition(".")[0] for key, value in first.items() if torch.equal(value, second[key])}
    assert same == set(DENSE)


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


def test_a_card_shows_the_figures():
    one = {"images": 2, "iou": {"mean": 0.9, "ci95": [0.85, 0.95]}, "dtssd": {"mean": 1.234}, "worst": ["p7", "p3"]}
    sets = {row.name: one for row in SETS}
    weights = {"file": "w.safetensors", "bytes": 1234, "sha256": "ab"}
    figures = {"network": "n", "size": [8, 8], "parameters": 10, "weights": weights, "sets": sets}
    card = table(figures)
    assert "0.900 (0.850-0.950)" in card and "1,234 bytes" in card
    assert "dtSSD on `sequence/s0`: 1.23" in card and "p7, p3." in card


@pytest.mark.parametrize("figures", sorted((ROOT / "models").glob("*/figures.json")), ids=lambda path: path.parent.name)
def test_every_card_shows_its_own_figures_of_its_own_weights(figures: Path):
    stored = json.loads(figures.read_text())
    assert table(stored) in (figures.parent / "README.md").read_text()
    weights = figures.parent / stored["weights"]["file"]
    if not weights.is_file():
        # what is 2 MB or more is not in the repository; the card then says so, and how to train it
        assert stored["weights"]["bytes"] >= 2_000_000
        assert "not in this repository" in (figures.parent / "README.md").read_text()
        return
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == stored["weights"]["sha256"]
