from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.networks.modnet import IBNorm
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.mask_instance_norm import MASK_INSTANCE_NORM

aten = torch.ops.aten


class Halves(nn.Module):
    """A convolution of eight channels, whose parts ``join`` normalizes and puts together again."""

    def __init__(self, join: Any, **norm: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4, **norm)
        self.other = nn.InstanceNorm2d(2, eps=1e-3)
        self.join = join

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.join(self, self.conv(image))


@pytest.mark.parametrize("shape", [(1, 3, 37, 45), (1, 3, 1, 7), (1, 3, 64, 64), (1, 3, 101, 103)], ids=str)
def test_half_norms_become_arithmetic_on_the_whole_map(attempt: Any, shape: tuple[int, ...]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1), IBNorm(7), nn.ReLU())
    trial = attempt(MASK_INSTANCE_NORM, network, shape, after=(FOLD_BATCHNORM,))

    assert trial.outcome.changes == 1
    assert trial.count(aten.instance_norm.default, aten.slice.Tensor, aten.cat.default) == 0
    assert [node.args[1:] for node in trial.nodes(aten.mean.dim)] == [([2, 3], True)] * 2
    assert {module_path(node) for node in trial.nodes(aten.rsqrt.default)} == {"1.inorm"}
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(
    "join",
    [
        lambda n, y: torch.cat([n.norm(y[:, :4]), y[:, 4:]], 1),
        lambda n, y: torch.cat([y[:, :1], n.norm(y[:, 1:5]), y[:, 5:]], dim=1),
        lambda n, y: torch.cat([n.norm(half) if i else half for i, half in enumerate(y.chunk(2, 1))], dim=-3),
    ],
    ids=["first", "middle", "split"],
)
def test_any_range_of_channels_may_be_normed(attempt: Any, join: Any, affine: bool) -> None:
    trial = attempt(MASK_INSTANCE_NORM, Halves(join, affine=affine))

    assert (trial.outcome.changes, trial.count(aten.instance_norm.default, aten.cat.default)) == (1, 0)
    assert trial.count(aten.add.Tensor) == (3 if affine else 2)  # eps, what is kept, and a shift
    assert max(trial.error, trial.ring_error) < 1e-5


def test_mean_far_from_zero_does_not_cancel(attempt: Any) -> None:
    class Far(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.InstanceNorm2d(2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            y = image * 0.1 + 100
            return torch.cat([y[:, :1], self.norm(y[:, 1:])], 1)

    # 100 holds 0.1 in steps of 8e-6: 1e-3 of a standard deviation, where E[x^2] - m^2 would lose it all
    assert attempt(MASK_INSTANCE_NORM, Far()).error < 1e-3


def test_channels_that_pass_keep_every_bit(attempt: Any) -> None:
    trial = attempt(MASK_INSTANCE_NORM, Halves(lambda n, y: torch.cat([y[:, :4], n.norm(y[:, 4:])], 1)))
    image = torch.randn(1, 3, 9, 11)
    convolved = next(node for node in trial.graph.graph.nodes if node.target is aten.conv2d.default)

    weight, bias = (trial.graph.get_buffer(str(part.target)) for part in convolved.args[1:3])
    assert torch.equal(trial.graph(image)[:, :4], nn.functional.conv2d(image, weight, bias, padding=1)[:, :4])


@pytest.mark.parametrize(
    ("join", "norm", "reason"),
    [
        (
            lambda n, y: torch.cat([torch.relu(y[:, :4]), n.norm(y[:, 4:])], 1),
            {},
            "a part is no plain range of channel",
        ),
        (lambda n, y: torch.cat([y[:, 4:], n.norm(y[:, :4])], 1), {}, "its parts change the order of channels"),
        (lambda n, y: torch.cat([y[:, 1:4], n.norm(y[:, 4:])], 1), {}, "its parts are not all channels of one map"),
        (lambda n, y: torch.cat([y[:, :4], n.norm(y[:, 4:])], 2), {}, "it does not join channels of a map"),
        (lambda n, y: torch.cat([n.norm(y[:, :4]), y[:, 4:6], n.other(y[:, 6:])], 1), {}, "its norms differ in eps"),
        (
            lambda n, y: torch.cat([y[:, :4], n.norm(y[:, 4:])], 1),
            {"track_running_stats": True},
            "a norm uses running statistics",
        ),
        (
            lambda n, y: torch.cat([y[:, :4], z := n.norm(y[:, 4:])], 1) + torch.cat([z, z], 1),
            {},
            "a norm is read elsewhere too",
        ),
    ],
)
def test_other_arrangements_are_refused(attempt: Any, join: Any, norm: dict[str, Any], reason: str) -> None:
    trial = attempt(MASK_INSTANCE_NORM, Halves(join, **norm))

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert any(reason in refusal for refusal in trial.outcome.refusals)
