from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.rewrites.fold_batchnorm_forward import FOLD_BATCHNORM_FORWARD

aten = torch.ops.aten


class Readers(nn.Module):
    """A norm behind an activation, read in several ways."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.left = nn.Conv2d(12 if form == "cat" else 4, 2, 3, bias=False)
        if form == "two":
            self.right = nn.Conv2d(4, 2, 3, groups=2)
        self.form = form

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(image))
        y = self.bn(x)
        if self.form == "two":
            return self.left(y) + self.right(y)
        if self.form == "cat":  # the norm's channels in the middle and at the end of what is read
            return self.left(torch.cat([x, y, y], 1))
        if self.form == "also itself":
            return self.left(y) + y[:, :2, 1:-1, 1:-1]
        if self.form == "sum":
            return self.left(y + x)
        return y


def norm_then(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.BatchNorm2d(4), *layers)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(norm_then(nn.Conv2d(4, 5, 1)), id="1x1"),
        pytest.param(norm_then(nn.Conv2d(4, 5, 3, 2, dilation=2, bias=False)), id="3x3 without bias"),
        pytest.param(norm_then(nn.Conv2d(4, 6, 3, groups=2)), id="groups"),
        pytest.param(norm_then(nn.Conv2d(4, 8, 3, groups=4, bias=False)), id="depthwise of two"),
        pytest.param(norm_then(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 3)), id="bilinear"),
        pytest.param(norm_then(nn.AvgPool2d(2), nn.Upsample(size=(31, 17)), nn.Conv2d(4, 2, 1)), id="pool, nearest"),
        pytest.param(Readers("two"), id="two convolutions"),
        pytest.param(Readers("cat"), id="concatenation"),
    ],
)
def test_norm_goes_into_the_convolutions_behind_it(attempt: Any, network: nn.Module) -> None:
    trial = attempt(FOLD_BATCHNORM_FORWARD, network)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.batch_norm.default) == 0
    assert trial.count(aten.conv2d.default) == sum(isinstance(part, nn.Conv2d) for part in network.modules())
    assert max(trial.error, trial.ring_error) < 2e-5


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (norm_then(nn.Conv2d(4, 5, 3, padding=1)), "conv2d at 3 pads with zeros"),
        (norm_then(nn.ReLU(), nn.Conv2d(4, 5, 1)), "relu at 3 reads it"),
        (norm_then(nn.ConvTranspose2d(4, 5, 2, 2)), "conv_transpose2d at 3 reads it"),
        (norm_then(nn.AvgPool2d(3, 2, 1), nn.Conv2d(4, 5, 1)), "avg_pool2d at 3 reads it"),
        (norm_then(weight_norm(nn.Conv2d(4, 5, 1))), "the weight or bias of conv2d at 3 is computed"),
        (norm_then(), "the output of the network reads it"),
        (Readers("also itself"), "slice"),
        (Readers("sum"), "add at add reads it"),
    ],
)
def test_norm_that_is_read_otherwise_is_kept(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(FOLD_BATCHNORM_FORWARD, network)

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default), trial.error) == (0, 1, 0)
    (refusal,) = trial.outcome.refusals
    assert ": not folded forward, " in refusal and reason in refusal


def test_norm_that_only_scales_goes_into_a_padded_convolution(attempt: Any) -> None:
    class OnlyScales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("zero", torch.zeros(3))
            self.register_buffer("variance", torch.tensor([0.5, 2.0, 3.0]))
            self.conv = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(nn.functional.batch_norm(image, self.zero, self.variance))

    trial = attempt(FOLD_BATCHNORM_FORWARD, OnlyScales())

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default)) == (1, 0)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_norm_of_a_vector_is_no_matter_of_this_rewrite(attempt: Any) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 4))

    trial = attempt(FOLD_BATCHNORM_FORWARD, network)

    assert (trial.outcome.changes, trial.outcome.refusals) == (0, ())
