"""The recipes of PortraitNet and the narrow MMNet learn on drawn portraits and export what the registry loads."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.errors import CheckpointError
from mobile_matting_export.images import to_input
from mobile_matting_export.network import find_spec, load_network
from mobile_matting_export.networks.mmnet import MMNet
from mobile_matting_export.networks.portraitnet import PORTRAITNET, PortraitNetWithEdge
from mobile_matting_export.procedural_portraits import make_portrait
from models.mmnet import train as mmnet
from models.portraitnet import train as portraitnet
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.fused_units import fuse_units
from models.training.loop import Loss, Stage
from models.training.losses import soft_cross_entropy
from models.training.portraits import Portraits, from_arrays

SIZE = 64
STILL = Variation(rotation_degrees=0.0, aspect=0.0, shift=0.0, background_share=0.0, distant_share=0.0)


def drawn(height: int = SIZE, width: int = SIZE, count: int = 4) -> Portraits:
    made = [make_portrait(seed, (height, width)) for seed in range(count)]
    mattes = [np.round(alpha * 255).astype(np.uint8) for _, alpha in made]
    return from_arrays(tuple("abcdefgh"[:count]), [image for image, _ in made], mattes)


def augmenter_of(kind: type[Augmenter], portraits: Portraits, variation: Variation = STILL) -> Augmenter:
    patches = torch.zeros(0, 3, SIZE, SIZE, dtype=torch.uint8)
    return kind(portraits.image, portraits.alpha, patches, variation, seed=0)


def random_statistics(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "wide.safetensors"
    export_weights(random_statistics(MMNet(1.0)), path, {})
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of drawn portraits as the recipes read it, upright as the real ones are."""
    folder, pictures = tmp_path / "data", drawn(SIZE, 48)
    for part in ("image", "alpha"):
        (folder / part).mkdir(parents=True)
    for name, image, alpha in zip(pictures.names, pictures.image, pictures.alpha, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "image" / f"{name}.jpg")
        Image.fromarray(alpha[0].numpy()).save(folder / "alpha" / f"{name}.png")
    (folder / "train.txt").write_text("a\nb\nc\n")
    (folder / "val.txt").write_text("d\n")
    return folder


def losses_of_steps(net: nn.Module, loss: Loss, augmenter: Augmenter, steps: int = 5) -> list[float]:
    image, alpha = augmenter.batch(4, SIZE, (1.0, 1.0))
    optimizer = torch.optim.AdamW(net.train().parameters(), lr=2e-3)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(net, image, alpha)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    return values


def test_portraitnet_learns() -> None:
    torch.manual_seed(0)
    net = PortraitNetWithEdge()
    portraitnet.start_as_interpolation(net)
    augmenter = augmenter_of(portraitnet.PairAugmenter, drawn())
    values = losses_of_steps(portraitnet.BoundaryScores(net), portraitnet.portraitnet_loss, augmenter)
    assert values[-1] < 0.8 * values[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "taught"])
def test_the_narrow_mmnet_learns(teacher_file: Path, taught: bool) -> None:
    torch.manual_seed(0)
    net = mmnet.QuarterScores(MMNet(0.5))
    teacher = mmnet.load_teacher(teacher_file) if taught else None
    before = copy.deepcopy(teacher.state_dict()) if teacher else {}
    values = losses_of_steps(net, partial(mmnet.mmnet_loss, teacher=teacher), augmenter_of(Augmenter, drawn()))
    assert values[-1] < 0.9 * values[0]
    if teacher:
        assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
        assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    ("recipe", "name", "options"),
    [
        (portraitnet, "portraitnet", []),
        (mmnet, "mmnet_050", ["--width", "0.5"]),
        (mmnet, "mmnet_075", ["--width", "0.75"]),
        (mmnet, "mmnet_050", ["--width", "0.5", "--teacher"]),
    ],
    ids=["portraitnet", "mmnet_050", "mmnet_075", "mmnet_050_taught"],
)
def test_a_recipe_writes_weights_that_its_network_loads(
    recipe, name: str, options: list[str], data: Path, teacher_file: Path, tmp_path: Path, monkeypatch
) -> None:
    small = dataclasses.replace(recipe.RECIPE, stages=(Stage(until=1.0, size=SIZE, batch=2, zoom=(1.0, 1.2)),))
    monkeypatch.setattr(recipe, "RECIPE", small)
    monkeypatch.setattr(recipe, "BUILD", tmp_path / "build")
    # the compiled steps have tests of their own, and compiling them takes half a minute
    monkeypatch.setattr(recipe, "fuse_units", lambda net: None, raising=False)
    given = [*options, str(teacher_file)] if "--teacher" in options else options
    recipe.main([*given, "--data", str(data), "--minutes", "0.02"])
    size = "x".join(map(str, find_spec(name).size))
    path = tmp_path / "build" / f"{name}_{size}.safetensors"
    assert (tmp_path / "build" / f"{name}.pt").is_file()
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["network"], metadata["size"]) == (name, size)
    assert ("taught by wide.safetensors" in metadata["training"]) == ("--teacher" in options)
    loaded = load_network(name, path, (SIZE, SIZE))
    with torch.no_grad():
        alpha = loaded.module(torch.from_numpy(to_input(make_portrait(9, SIZE)[0], loaded.spec.image, loaded.size)))
    assert alpha.shape == (1, 1, SIZE, SIZE) and alpha.min() >= 0 and alpha.max() <= 1


def test_portraitnet_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, fresh = random_statistics(PortraitNetWithEdge()), PortraitNetWithEdge()
    own_head = fresh.edge.weight.clone()
    path = tmp_path / "weights.safetensors"
    export_weights(portraitnet.without_boundary(trained), path, {})
    portraitnet.start_from(fresh, path)
    assert torch.equal(fresh.stage7.conv[0].weight, trained.stage7.conv[0].weight.half().float())
    assert torch.equal(fresh.edge.weight, own_head)
    export_weights(MMNet(0.5), path, {})
    with pytest.raises(CheckpointError, match="portraitnet"):
        portraitnet.start_from(fresh, path)


def test_portraitnet_is_trained_in_the_input_convention_of_the_registry(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = random_statistics(PortraitNetWithEdge())
    upright, picture = drawn(SIZE, 48, count=1), make_portrait(0, (SIZE, 48))[0]
    framed = portraitnet.letterboxed(upright)
    mine = portraitnet.normalized(framed.image.float() / 255)
    theirs = torch.from_numpy(to_input(picture, PORTRAITNET.image, (SIZE, SIZE)))
    assert framed.alpha.shape == (1, 1, SIZE, SIZE) and framed.alpha[..., :8].max() == 0
    assert torch.allclose(mine, theirs, atol=1e-5)
    path = tmp_path / "weights.safetensors"
    export_weights(portraitnet.without_boundary(net), path, {})
    loaded = load_network("portraitnet", path, (SIZE, SIZE))
    with torch.no_grad():
        matte = portraitnet.portraitnet_matte(portraitnet.BoundaryScores(net).eval(), framed.image.float() / 255)
        # float16 weights
        assert torch.allclose(loaded.module(theirs), matte, atol=2e-3)


def test_a_picture_in_landscape_is_framed_above_and_below() -> None:
    framed = portraitnet.letterboxed(drawn(48, SIZE, count=1))
    assert framed.image.shape == (1, 3, SIZE, SIZE)
    assert (framed.image[:, :, [0, 7, -8, -1]] == 128).all() and (framed.alpha[:, :, [0, 7, -8, -1]] == 0).all()


def test_both_heads_of_portraitnet_read_the_last_map() -> None:
    torch.manual_seed(0)
    net = random_statistics(PortraitNetWithEdge())
    both = copy.deepcopy(portraitnet.BoundaryScores(net))
    both.training = True  # of the wrapper alone: the statistics below must be the same
    x = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        logits, edges = both(x)
        assert torch.equal(logits, net(x)) and edges.shape == logits.shape
        # with the weights of the mask's head, the boundary's gives the same
        both.net.edge.weight.copy_(both.net.pred.weight)
        assert torch.equal(both(x)[1], logits)
        assert torch.equal(both.eval()(x), logits), "no hook is left behind"


def test_pairs_show_one_geometry_in_two_textures() -> None:
    pairs, single = (augmenter_of(kind, drawn()) for kind in (portraitnet.PairAugmenter, Augmenter))
    (image, alpha), (degraded, matte) = pairs.batch(4, SIZE, (1.0, 1.3)), single.batch(4, SIZE, (1.0, 1.3))
    assert image.shape == (8, 3, SIZE, SIZE) and alpha.shape == (4, 1, SIZE, SIZE)
    assert image.min() >= 0 and image.max() <= 1
    in_landscape = (image[:4, :, :2] == 128 / 255).all(dim=(1, 2, 3))
    assert torch.equal(image[4:][~in_landscape], degraded[~in_landscape]), "A' is what other recipes see"
    assert torch.equal(alpha[~in_landscape], matte[~in_landscape])
    assert ((image[:4] - image[4:]).abs().mean(dim=(1, 2, 3)) > 0.01).all()


def test_some_pairs_stand_between_bars_as_pictures_in_landscape_do(monkeypatch) -> None:
    monkeypatch.setattr(portraitnet, "LANDSCAPE_SHARE", 1.0)
    image, alpha = augmenter_of(portraitnet.PairAugmenter, drawn()).batch(4, SIZE, (1.0, 1.0))
    for rows in (slice(5), slice(-5, None)):
        assert (image[:, :, rows] == 128 / 255).all() and (alpha[:, :, rows] == 0).all()
    assert alpha[:, :, 16:-16].max() > 0.9
    upright = portraitnet.letterboxed(drawn(SIZE, 48))
    image, alpha = augmenter_of(portraitnet.PairAugmenter, upright).batch(4, SIZE, (1.0, 1.0))
    assert (image[:4, :, :5].std(dim=(1, 2, 3)) > 0.01).all(), "no picture has bars on all four sides"


def test_the_boundary_is_a_band_around_the_person_but_not_along_the_frame() -> None:
    alpha = torch.zeros(2, 1, 20, 20)
    alpha[0, :, 8:, 5:15] = 0.8
    band = portraitnet.boundary(alpha)
    assert not band[1].any()
    assert band[0, 0, :, 10].nonzero()[:, 0].tolist() == [6, 7, 8, 9]
    assert band[0, 0, 19].nonzero()[:, 0].tolist() == [3, 4, 5, 6, 13, 14, 15, 16]


def test_the_focal_loss_is_the_cross_entropy_times_the_square_of_the_doubt() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, -1.0], [0.5, 1.5]])[:, :, None, None]
    target = torch.tensor([True, False, True])[:, None, None, None]
    right = torch.tensor([0.5, 1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))], dtype=torch.float32)
    assert portraitnet.focal_loss(logits, target) == pytest.approx(float((-((1 - right) ** 2) * right.log()).mean()))


def test_consistency_is_half_the_divergence_and_teaches_only_the_degraded_side() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, degraded = (torch.randn(2, 2, 4, 4, generator=generator).requires_grad_() for _ in range(2))
    value = portraitnet.consistency(degraded, plain)
    value.backward()
    q, p = plain.softmax(dim=1), degraded.softmax(dim=1)
    assert value.item() == pytest.approx((q * (q / p).log()).sum(dim=1).mean().item() / 2)
    assert plain.grad is None and degraded.grad is not None
    assert portraitnet.consistency(plain, plain).item() == pytest.approx(0, abs=1e-7)


def test_transposed_convolutions_start_as_bilinear_doubling() -> None:
    net = PortraitNetWithEdge()
    portraitnet.start_as_interpolation(net)
    x = torch.rand(1, 16, 6, 5)
    with torch.no_grad():
        doubled = net.deconv4(x)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(doubled[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize("width", mmnet.PUBLISHED_WIDTHS)
def test_a_teacher_may_have_any_published_width(width: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path = random_statistics(MMNet(width)), tmp_path / "teacher.safetensors"
    export_weights(net, path, {})
    teacher, image = mmnet.load_teacher(path), torch.rand(1, 3, 32, 32)
    assert not teacher.training
    with torch.no_grad():
        expected = net(image).softmax(dim=1)[:, 1:2]
        assert torch.allclose(mmnet.mmnet_matte(teacher, image), expected, atol=2e-3)


def test_the_teacher_adds_its_cross_entropy(teacher_file: Path) -> None:
    torch.manual_seed(0)
    net, teacher = mmnet.QuarterScores(MMNet(0.5)).train(), mmnet.load_teacher(teacher_file)
    image, alpha = augmenter_of(Augmenter, drawn()).batch(2, SIZE, (1.0, 1.0))
    alone, taught = mmnet.mmnet_loss(net, image, alpha), mmnet.mmnet_loss(net, image, alpha, teacher=teacher)
    difference = soft_cross_entropy(net(image)[0], mmnet.mmnet_matte(teacher, image))
    assert (taught - alone).item() == pytest.approx(difference.item(), rel=1e-4)


def test_a_teacher_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    export_weights(PortraitNetWithEdge(), path, {})
    with pytest.raises(CheckpointError, match="an MMNet"):
        mmnet.load_teacher(path)


def test_without_a_compiler_training_goes_on_plainly(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("models.training.fused_units.shutil.which", lambda name: None)
    net = MMNet(0.5)
    fuse_units(net)
    assert "half the speed" in capsys.readouterr().err
    assert all("forward" not in vars(module) for module in net.modules())
