from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM

aten = torch.ops.aten

CONVS = (aten.conv2d.default, aten.conv_transpose2d.input)


class Skip(nn.Module):
    """Batch norm behind ``joined(conv a, conv b)``."""

    def __init__(self, join: str, channels: int = 4) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.join = join

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        a, b = self.a(image), self.b(image)
        if self.join == "add":
            return self.bn(a + b)
        if self.join == "cat":
            return self.bn(torch.cat([a, b], dim=1))
        if self.join == "relu":
            return self.bn(a + F.relu(b))
        if self.join == "alpha":
            return self.bn(torch.add(a, b, alpha=2))
        if self.join == "broadcast":
            return self.bn(a + b.mean((2, 3), keepdim=True))
        if self.join == "read twice":
            return self.bn(a) + a
        if self.join == "itself":
            return self.bn(a + a)
        return self.bn(torch.cat([a, a], dim=1))


class Halves(nn.Module):
    """Batch norm on the first half of a convolution, as IBNorm has it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.form = form

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv(image)
        if self.form == "chunk":
            first, second = x.chunk(2, dim=1)
        elif self.form == "overlapping":
            first, second = x[:, :4], x[:, 3:]
        else:
            first, second = x[:, :4], x[:, -4:]
        result = torch.cat([self.bn(first), torch.tanh(second)], dim=1)
        return result + x if self.form == "read whole" else result


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([nn.Conv2d(3, 4, 3, padding=1)], id="conv"),
        pytest.param([nn.Conv2d(3, 4, 3, 2, 2, dilation=2, bias=False)], id="conv without bias"),
        pytest.param([nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 4, 1, groups=2)], id="grouped conv"),
        pytest.param([nn.ConvTranspose2d(3, 4, 4, 2, 1)], id="deconv"),
        pytest.param(
            [nn.ConvTranspose2d(3, 6, 3, 2, 1, 1, groups=3), nn.ConvTranspose2d(6, 4, 2, groups=2)], id="grouped"
        ),
        pytest.param([nn.Conv2d(3, 4, 3, padding=1), nn.Upsample(scale_factor=2, mode="bilinear")], id="bilinear"),
        pytest.param([nn.Conv2d(3, 4, 3, padding=1), nn.Upsample(size=(50, 31))], id="nearest"),
        pytest.param([nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2)], id="unpadded pool"),
    ],
)
def test_norm_behind_a_linear_producer_is_folded(attempt: Any, layers: list[nn.Module]) -> None:
    trial = attempt(FOLD_BATCHNORM, nn.Sequential(*layers, nn.BatchNorm2d(4)))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.batch_norm.default) == 0
    assert trial.count(*CONVS) == sum(isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) for layer in layers)
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize(("join", "channels"), [("add", 4), ("cat", 8)])
def test_norm_behind_a_join_is_folded_into_both_sides(attempt: Any, join: str, channels: int) -> None:
    trial = attempt(FOLD_BATCHNORM, Skip(join, channels))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(aten.batch_norm.default), trial.count(*CONVS)) == (0, 2)
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("form", ["slices", "chunk"])
def test_norm_on_half_of_the_channels_is_folded_into_that_half(attempt: Any, form: str) -> None:
    trial = attempt(FOLD_BATCHNORM, Halves(form))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(aten.batch_norm.default), trial.count(*CONVS)) == (0, 1)
    assert trial.error < 1e-5


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Skip("relu"), "relu at relu is not linear per channel"),
        (Skip("alpha"), "add at add adds a tensor to itself or scales it"),
        (Skip("itself"), "add at add adds a tensor to itself or scales it"),
        (Skip("broadcast"), "add at add is not linear per channel"),
        (Skip("read twice"), "conv2d at a is read 2 times"),
        (Skip("one tensor twice", 8), "cat at cat takes one tensor twice"),
        (Halves("overlapping"), "slices of conv2d at conv overlap"),
        (Halves("read whole"), "conv2d at conv is also read whole"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), "relu at 0 is not linear per channel"),
        (nn.Sequential(nn.BatchNorm2d(3)), " at image is not linear per channel"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(3, 2, 1), nn.BatchNorm2d(4)),
            "avg_pool2d at 1 pads",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2, divisor_override=3), nn.BatchNorm2d(4)),
            "avg_pool2d at 1 divides by another number",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.ZeroPad2d(1), nn.BatchNorm2d(4)),
            "pad at 1 is not linear per channel",
        ),
        (
            nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
            "the weight or bias of conv2d at 0 is computed",
        ),
    ],
)
def test_norm_that_cannot_be_folded_says_why(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(FOLD_BATCHNORM, network)

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default)) == (0, 1)
    (refusal,) = trial.outcome.refusals
    assert ": not folded into what is before it, " in refusal and reason in refusal
    assert trial.error == 0


def test_norm_of_a_vector_is_refused(attempt: Any) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.BatchNorm1d(4))

    trial = attempt(FOLD_BATCHNORM, network)

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default)) == (0, 1)
    assert trial.outcome.refusals == ("batch_norm at 3: kept, it does not normalize a map",)


def test_two_norms_in_a_row_are_both_folded(attempt: Any) -> None:
    trial = attempt(FOLD_BATCHNORM, nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)))

    assert (trial.outcome.changes, trial.count(aten.conv2d.default)) == (2, 1)
    assert trial.error < 1e-5


def test_norm_without_scale_and_shift_is_folded(attempt: Any) -> None:
    trial = attempt(FOLD_BATCHNORM, nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)))

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default)) == (1, 0)
    assert trial.error < 1e-5
