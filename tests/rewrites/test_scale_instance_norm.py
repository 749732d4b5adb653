from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.networks.modnet import IBNorm
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.scale_instance_norm import SCALE_INSTANCE_NORM

aten = torch.ops.aten


class Sized(nn.Module):
    """A convolution whose weights have this norm per output channel, and what ``after`` does behind it."""

    def __init__(self, norm: float, after: Any = None, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=bias)
        self.norm = nn.InstanceNorm2d(6, eps=eps)
        self.size, self.sized = norm, False
        self.after = after or (lambda n, y: n.norm(y))

    def train(self, mode: bool = True) -> Sized:  # eval() follows the trial's random numbers; twice must be once
        super().train(mode)
        if not self.sized:
            weight = self.conv.weight.data
            weight.mul_(self.size / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
            self.sized = True
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.after(self, self.conv(image))


@pytest.mark.parametrize(
    ("norm", "eps", "scale"), [(1.1, 1e-5, 4), (0.57, 1e-5, 8), (6.0, 1e-5, 4), (0.1, 1e-8, 128), (1.1, 1e-3, 4)]
)
def test_scale_is_a_power_of_two_that_makes_eps_a_normal_half(
    attempt: Any, norm: float, eps: float, scale: float
) -> None:
    trial = attempt(SCALE_INSTANCE_NORM, Sized(norm, eps=eps))

    (normed,) = trial.nodes(aten.instance_norm.default)
    (convolved,) = trial.nodes(aten.conv2d.default)
    assert normed.args[7] == pytest.approx(eps * scale**2)
    assert normed.args[7] >= 2**-14
    assert convolved.args[2] is None, "its bias would be taken away again"
    assert max(trial.error, trial.ring_error) < 1e-5


def test_only_the_normed_half_is_scaled(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1), IBNorm(7), nn.ReLU())
    trial = attempt(SCALE_INSTANCE_NORM, network, after=(FOLD_BATCHNORM,))

    (convolved,) = trial.nodes(aten.conv2d.default)
    bias = trial.graph.get_buffer(str(convolved.args[2].target))
    assert trial.outcome.changes == 1
    assert bias[:3].abs().min() > 0
    assert bias[3:].abs().max() == 0
    assert max(trial.error, trial.ring_error) < 1e-5


def test_flat_channel_gives_zero(attempt: Any) -> None:
    class Flat(Sized):
        def train(self, mode: bool = True) -> Flat:
            super().train(mode)
            self.conv.weight.data[2] = 0
            return self

    trial = attempt(SCALE_INSTANCE_NORM, Flat(1.0))

    assert trial.graph(torch.randn(1, 3, 9, 9))[:, 2].abs().max() == 0
    assert trial.error < 1e-5


def test_running_statistics_are_none_of_its_business(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True))

    assert attempt(SCALE_INSTANCE_NORM, network).outcome.changes == 0


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.InstanceNorm2d(3)), "image before it is no convolution"),
        (Sized(1, lambda n, y: n.norm(torch.relu(y))), "before it is no convolution"),
        (Sized(1, lambda n, y: n.norm(y) + y), "conv2d at conv is read elsewhere too"),
        (Sized(1, lambda n, y: torch.cat([n.norm(y[:, 2:]), y[:, :3]], 1)), "conv2d at conv is read elsewhere too"),
        (Sized(9), "so large that scaled squares may pass 65504"),
    ],
    ids=["input", "relu", "whole", "overlap", "large"],
)
def test_other_producers_are_refused(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(SCALE_INSTANCE_NORM, network)

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert reason in trial.outcome.refusals[0]
    assert "eps stays 1e-05" in trial.outcome.refusals[0]
