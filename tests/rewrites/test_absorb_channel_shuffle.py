from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.rewrites.absorb_channel_shuffle import ABSORB_CHANNEL_SHUFFLE
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS

aten = torch.ops.aten

SHUFFLES = (aten.transpose.int, aten.reshape.default, aten.view.default)
CLEAN = (REMOVE_NO_OPS, FOLD_BATCHNORM)
SHAPE = (1, 6, 37, 45)


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class Branches(nn.Module):
    """A shuffle read by two branches that meet again, as in SINet's spatial squeeze module."""

    def __init__(self, meet: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 12, 1, groups=3)
        self.shuffle = Shuffle(3)
        self.left = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(12, 12, 3, 1, 1, groups=12), nn.PReLU(12))
        self.right = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 0, groups=12), nn.PReLU())
        self.beside = nn.Conv2d(6, 12, 2, 2)
        self.last = nn.Conv2d(24 if meet in ("cat", "twice") else 12, 1, 3, padding=1)
        self.meet = meet

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.shuffle(self.first(image))
        left, right = self.left(x), self.right(x)
        if self.meet == "cat":
            return self.last(torch.cat([left, right], 1))
        if self.meet == "twice":
            return self.last(torch.cat([left, F.relu(left)], 1))
        if self.meet == "add":
            return self.last(left + right * left.mean((2, 3), keepdim=True))
        if self.meet == "beside":
            return self.last(left + self.beside(image))
        if self.meet == "gate":
            return self.last(left * right[:, 1:2].sigmoid())
        if self.meet == "halves":
            return self.last(torch.cat(left.chunk(2, 1), 1))
        return self.last(left).expand(1, 12, -1, -1) + left


def grouped(*between: nn.Module, out: int = 4) -> nn.Sequential:
    """A convolution with groups, a shuffle, and a dense convolution: the shuffle can only go forward."""
    return nn.Sequential(
        nn.Conv2d(6, 12, 3, padding=1, groups=3), Shuffle(3), *between, nn.Conv2d(12, out, 3, padding=1)
    )


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(nn.Sequential(nn.Conv2d(6, 12, 3), Shuffle(4), nn.Conv2d(12, 4, 1, groups=4)), id="dense before"),
        pytest.param(
            nn.Sequential(nn.ConvTranspose2d(6, 12, 3, 2), nn.PReLU(12), Shuffle(3), nn.Conv2d(12, 6, 1, groups=3)),
            id="dense transposed before",
        ),
        pytest.param(
            nn.Sequential(
                *(nn.Conv2d(6, 12, 1), nn.ReLU(), nn.ConvTranspose2d(12, 12, 2, 2, groups=12), nn.MaxPool2d(3, 2, 1)),
                *(Shuffle(2), nn.Conv2d(12, 6, 1, groups=3)),
            ),
            id="handed back through depthwise transposed and pool",
        ),
        pytest.param(grouped(), id="dense behind"),
        pytest.param(grouped(nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.BatchNorm2d(12), nn.PReLU(12)), id="depthwise"),
        pytest.param(
            nn.Sequential(
                *(nn.Conv2d(6, 12, 1, groups=3), Shuffle(3), nn.Conv2d(12, 24, 3, padding=1, groups=12)),
                nn.Conv2d(24, 1, 1),
            ),
            id="depthwise of two",
        ),
        pytest.param(
            nn.Sequential(nn.Conv2d(6, 12, 1, groups=3), Shuffle(3), nn.ConvTranspose2d(12, 24, 2, 2, groups=12),
                          nn.ConvTranspose2d(24, 1, 3)),
            id="depthwise of two, transposed",
        ),
        pytest.param(grouped(nn.InstanceNorm2d(12, affine=True), nn.Upsample(scale_factor=2)), id="instance norm"),
        pytest.param(nn.Sequential(grouped(out=8), Shuffle(4), nn.Conv2d(8, 4, 1, groups=2)), id="two shuffles"),
        pytest.param(nn.Sequential(nn.Conv2d(6, 1, 1), nn.ConvTranspose2d(1, 12, 2), Shuffle(2),
                                   nn.Conv2d(12, 2, 1, groups=2)),
                     id="transposed of one channel"),
        *(pytest.param(Branches(meet), id=meet) for meet in ("cat", "twice", "add", "beside")),
    ],
)  # fmt: skip
def test_shuffle_is_absorbed(attempt: Any, network: nn.Module) -> None:
    trial = attempt(ABSORB_CHANNEL_SHUFFLE, network, SHAPE, CLEAN)

    assert trial.outcome.changes == sum(isinstance(part, Shuffle) for part in network.modules())
    assert trial.outcome.refusals == ()
    assert trial.count(*SHUFFLES) == 0
    assert max(trial.error, trial.ring_error) < 1e-5


def test_slopes_and_kernels_are_permuted_not_densified(attempt: Any) -> None:
    network = grouped(nn.Conv2d(12, 12, 3, 1, 1, groups=12), nn.PReLU(12))

    trial = attempt(ABSORB_CHANNEL_SHUFFLE, network, SHAPE, CLEAN)

    assert sum(b.numel() for b in trial.graph.buffers()) == sum(p.numel() for p in network.parameters())


def test_shuffle_that_undoes_another_goes_with_it(attempt: Any) -> None:
    network = nn.Sequential(
        nn.Conv2d(6, 12, 1, groups=3), Shuffle(3), nn.ReLU(), Shuffle(4), nn.Conv2d(12, 3, 1, groups=3)
    )

    trial = attempt(ABSORB_CHANNEL_SHUFFLE, network, SHAPE, CLEAN)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(*SHUFFLES)) == (2, (), 0)
    assert trial.error < 1e-5


def test_readers_that_share_a_weight_go_on_sharing_it(attempt: Any) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(6, 12, 1, groups=3)
            self.shuffle = Shuffle(3)
            self.last = nn.Conv2d(12, 2, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = self.shuffle(self.first(image))
            return self.last(x) + self.last(F.relu(x))

    network = Shared()
    trial = attempt(ABSORB_CHANNEL_SHUFFLE, network, SHAPE, CLEAN)

    assert trial.outcome.changes == 1
    assert sum(b.numel() for b in trial.graph.buffers()) == sum(p.numel() for p in network.parameters())
    assert trial.error < 1e-5


@pytest.mark.parametrize(
    ("network", "reasons"),
    [
        (
            nn.Sequential(nn.Conv2d(6, 12, 1, groups=3), nn.ReLU(), Shuffle(3), nn.Conv2d(12, 6, 1, groups=3)),
            ("conv2d at 0 makes its channels in 3 groups", "conv2d at 3 reads its channels in 3 groups"),
        ),
        (nn.Sequential(Shuffle(3), nn.ReLU()), ("image gives its channels", "output of the network")),
        (
            nn.Sequential(nn.Conv2d(6, 12, 1, groups=3), Shuffle(3), nn.Softmax(1), nn.Conv2d(12, 1, 1)),
            ("3 groups", "softmax at 2 needs the channels in their own order"),
        ),
        (
            nn.Sequential(
                *(nn.Conv2d(6, 12, 3, padding=1, groups=3), nn.Conv2d(12, 24, 1, groups=12), Shuffle(4), nn.Softmax(1))
            ),
            ("conv2d at 1 makes several channels of each it reads", "softmax at 3"),
        ),
        (Branches("gate"), ("3 groups", "takes channels apart")),
        (Branches("halves"), ("3 groups", "takes channels apart")),
        (Branches("output"), ("3 groups", "needs the channels in their own order")),
    ],
)  # fmt: skip
def test_shuffle_that_cannot_go_says_why(attempt: Any, network: nn.Module, reasons: tuple[str, str]) -> None:
    trial = attempt(ABSORB_CHANNEL_SHUFFLE, network, SHAPE, CLEAN)

    (refusal,) = trial.outcome.refusals
    assert (trial.outcome.changes, trial.error) == (0, 0)
    before, behind = refusal.split("; behind it, ")
    assert "the channel shuffle stays; before it, " in before
    assert reasons[0] in before
    assert reasons[1] in behind
