"""The normalization of pixels goes into what reads them, exactly, at borders too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.graph.ops import ADD, CONV, MUL, SUB
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.fold_normalization import FOLD_NORMALIZATION
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS

aten = torch.ops.aten
FLIP, DIV = aten.flip.default, aten.div.Tensor
SHIFTS = (ADD, SUB)
# measured: 2.4e-7 to 1.7e-6 of results of up to 14
EXACT = 1e-5


class Normalized(nn.Module):
    """(x - mean) * scale, BGR where asked for, then a body of convolutions and what stands between them."""

    def __init__(self, body: Callable[[nn.Module, torch.Tensor], torch.Tensor], mean: Sequence[float], bgr: bool):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.7, 1.3, 2.1]).view(1, 3, 1, 1))
        self.body, self.bgr = body, bgr
        self.padded, self.valid = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(3, 5, 3, bias=False)
        self.wide, self.grouped = nn.Conv2d(6, 4, 3, 1, 1), nn.Conv2d(3, 6, 3, 1, 0, groups=3)
        self.deconv = nn.ConvTranspose2d(3, 2, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flip(1) if self.bgr else x
        return self.body(self, (x - self.mean) * self.scale)


def double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


NO_MEAN, MEAN = (0.0, 0.0, 0.0), (0.5, -0.25, 0.125)
BODIES: dict[str, Callable[..., torch.Tensor]] = {
    "padded": lambda net, y: net.padded(y),
    "valid": lambda net, y: net.valid(y),
    "deconv": lambda net, y: net.deconv(y),
    "resized": lambda net, y: net.valid(double(y)),
    "pooled": lambda net, y: net.valid(F.avg_pool2d(y, 2)),
    "maximum": lambda net, y: net.valid(F.max_pool2d(y, 3, 2, 1)),
    "beside": lambda net, y: net.wide(torch.cat((y, F.max_pool2d(y, 3, 1, 1)), 1)),
    "twice": lambda net, y: net.wide(torch.cat((y, y), 1)),
    "two readers": lambda net, y: net.padded(y).mean() + net.valid(y),
    "repeated border": lambda net, y: net.valid(F.pad(y, (1, 1, 1, 1), mode="replicate")),
    "crop": lambda net, y: net.valid(y[:, :, 1:, 2:]),
}
TAKE_A_SHIFT = {"valid", "resized", "pooled", "maximum", "repeated border", "crop"}


@pytest.mark.parametrize("bgr", [False, True], ids=["RGB", "BGR"])
@pytest.mark.parametrize("name", BODIES)
def test_scale_and_order_of_channels_vanish(name: str, bgr: bool, attempt) -> None:  # type: ignore[no-untyped-def]
    trial = attempt(FOLD_NORMALIZATION, Normalized(BODIES[name], NO_MEAN, bgr))
    assert trial.outcome.changes == 1 and not trial.outcome.refusals
    assert not trial.count(SUB, MUL, FLIP)
    assert trial.error < EXACT and trial.ring_error < EXACT


@pytest.mark.parametrize("bgr", [False, True], ids=["RGB", "BGR"])
@pytest.mark.parametrize("name", BODIES)
def test_the_mean_vanishes_where_nothing_pads_and_stays_one_subtraction_elsewhere(
    name: str, bgr: bool, attempt
) -> None:  # type: ignore[no-untyped-def]
    trial = attempt(FOLD_NORMALIZATION, Normalized(BODIES[name], MEAN, bgr))
    assert trial.outcome.changes == 1
    assert trial.count(SUB) == (0 if name in TAKE_A_SHIFT else 1)
    assert bool(trial.outcome.refusals) == (name not in TAKE_A_SHIFT)
    assert not trial.count(MUL, FLIP)
    assert trial.error < EXACT and trial.ring_error < EXACT


def test_a_mean_folded_into_a_padded_convolution_would_be_seen_at_the_border(attempt) -> None:  # type: ignore[no-untyped-def]
    """The test's own eye: without the subtraction the ring is off."""
    trial = attempt(FOLD_NORMALIZATION, Normalized(BODIES["padded"], MEAN, False))
    (mean,) = trial.nodes(SUB)
    weight = trial.nodes(CONV)[0].args[1]
    image = torch.zeros(1, 3, 9, 9)
    with torch.no_grad():
        right = trial.graph(image)
        kernel = trial.graph.get_buffer(weight.target)
        shift = -(kernel * trial.graph.get_buffer(mean.args[1].target).view(1, 3, 1, 1)).sum((1, 2, 3))
        bias = trial.graph.get_buffer(trial.nodes(CONV)[0].args[2].target)
        naive = F.conv2d(image, kernel, bias + shift, 2, 1)
    assert torch.allclose(naive[:, :, 1:-1, 1:-1], right[:, :, 1:-1, 1:-1], atol=1e-5)
    assert (naive - right).abs().max() > 0.1


@pytest.mark.parametrize(("bgr", "groups"), [(False, 3), (True, 1)], ids=["RGB", "BGR"])
def test_where_the_picture_itself_is_needed_one_convolution_is_left(bgr: bool, groups: int, attempt) -> None:  # type: ignore[no-untyped-def]
    trial = attempt(FOLD_NORMALIZATION, Normalized(lambda net, y: net.padded(y).mean() + net.valid(y * y), MEAN, bgr))
    assert trial.outcome.changes == 1 and "needs the normalized picture" in trial.outcome.refusals[0]
    assert trial.count(CONV) == 3 and trial.count(MUL) == 1 and not trial.count(SUB, FLIP)
    first = trial.nodes(CONV)[0]
    assert first.args[6] == groups and first.args[1].meta["shape"][2:] == (1, 1)
    assert trial.error < EXACT and trial.ring_error < EXACT


def test_groups_take_a_scale_and_refuse_another_order(attempt) -> None:  # type: ignore[no-untyped-def]
    plain = attempt(FOLD_NORMALIZATION, Normalized(lambda net, y: net.grouped(y), MEAN, False))
    assert not plain.count(SUB, MUL) and plain.error < EXACT
    swapped = attempt(FOLD_NORMALIZATION, Normalized(lambda net, y: net.grouped(y), MEAN, True))
    assert "has groups of channels" in swapped.outcome.refusals[0]
    assert swapped.count(CONV) == 2 and swapped.error < EXACT


def test_a_negative_scale_does_not_pass_a_maximum(attempt) -> None:  # type: ignore[no-untyped-def]
    class Inverted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(F.max_pool2d(x * -2.0 + 1.0, 2))

    trial = attempt(FOLD_NORMALIZATION, Inverted())
    assert "needs the normalized picture" in trial.outcome.refusals[0] and trial.error < EXACT


def test_what_users_write_themselves_is_found(attempt) -> None:  # type: ignore[no-untyped-def]
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(2 * (x[:, [2, 0, 1]] / 255) - 1))

    trial = attempt(FOLD_NORMALIZATION, Own(), after=[REMOVE_NO_OPS, FOLD_BATCHNORM])
    assert trial.outcome.changes == 1 and not trial.outcome.refusals
    assert trial.count(CONV) == 1 and not trial.count(MUL, DIV, SUB, ADD, aten.index.Tensor)
    assert trial.error < EXACT


@pytest.mark.parametrize(
    "body",
    [
        lambda x: x - x.mean((2, 3), keepdim=True),
        lambda x: x * torch.rand(1, 1, 37, 45, generator=torch.Generator().manual_seed(0)),
        lambda x: torch.sigmoid(x),
    ],
    ids=["computed", "a number per pixel", "not affine"],
)
def test_other_beginnings_are_left_alone(body: Callable[[torch.Tensor], torch.Tensor], attempt) -> None:  # type: ignore[no-untyped-def]
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.body(x))

    if "rand" in body.__code__.co_names:
        numbers = body(torch.ones(1, 1, 37, 45))
        trial = attempt(FOLD_NORMALIZATION, type("PerPixel", (Other,), {"forward": lambda s, x: s.conv(x * numbers)})())
    else:
        trial = attempt(FOLD_NORMALIZATION, Other())
    assert trial.outcome.changes == 0 and trial.error == 0
