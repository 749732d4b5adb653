from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.ops import Conv
from mobile_matting_export.graph.surgery import shape
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS
from mobile_matting_export.rewrites.spell_channel_shuffle import SPELL_CHANNEL_SHUFFLE

aten = torch.ops.aten

CLEAN = (REMOVE_NO_OPS, FOLD_BATCHNORM)


class Shuffle(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)


def unit(*between: nn.Module, inner: int = 12) -> nn.Sequential:
    """Convolutions with groups on both sides of a shuffle, as in a ShuffleNet."""
    return nn.Sequential(
        *(nn.Conv2d(3, inner, 3, padding=1), nn.Conv2d(inner, inner, 1, groups=3), nn.ReLU(), Shuffle()),
        *(*between, nn.Conv2d(inner, 24, 1, groups=3), nn.Conv2d(24, 1, 3)),
    )


@pytest.mark.parametrize(
    ("between", "pixels"),
    [
        pytest.param((), 37 * 45, id="nothing between"),
        pytest.param((nn.Conv2d(12, 12, 3, 1, 1, groups=12), nn.ReLU()), 37 * 45, id="as large behind"),
        pytest.param((nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.ReLU6()), 19 * 23, id="depthwise of stride 2"),
        pytest.param((nn.PReLU(12), nn.MaxPool2d(2), nn.ReLU()), 18 * 22, id="slopes and pool"),
        pytest.param((nn.AvgPool2d(3, 2, 1), nn.Upsample(scale_factor=2)), 19 * 23, id="smallest on the way"),
        pytest.param((nn.Upsample(scale_factor=2),), 37 * 45, id="larger behind"),
        pytest.param((nn.MaxPool2d(2), nn.Softmax(1), nn.MaxPool2d(2)), 18 * 22, id="stops at what needs the order"),
    ],
)
def test_shuffle_becomes_a_permutation_at_the_smallest_map(
    attempt: Any, between: tuple[nn.Module, ...], pixels: int
) -> None:
    trial = attempt(SPELL_CHANNEL_SHUFFLE, unit(*between), after=CLEAN)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.transpose.int, aten.reshape.default) == 0
    permutations = [
        node for node in trial.nodes(aten.conv2d.default) if Conv.of(node).weight.name.find("identity") >= 0
    ]
    (permutation,) = permutations
    weight = trial.graph.get_buffer(Conv.of(permutation).weight.target)
    assert torch.equal(weight.flatten(1).sum(0), torch.ones(12)) and torch.equal(
        weight.flatten(1).amax(1), torch.ones(12)
    )
    assert shape(permutation)[2] * shape(permutation)[3] == pixels
    assert (trial.error, trial.ring_error) == (0, 0)


def test_every_reader_of_a_shuffle_reads_the_permutation(attempt: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 12, 1)
            self.shuffle = Shuffle()
            self.left, self.right = nn.Conv2d(12, 6, 1, groups=3), nn.MaxPool2d(3, 1, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            first = self.first(image)
            x = self.shuffle(first)
            return torch.cat([self.left(x), self.right(x), first], 1)

    trial = attempt(SPELL_CHANNEL_SHUFFLE, Twice(), after=CLEAN)

    assert (trial.outcome.changes, trial.count(aten.conv2d.default), trial.error) == (1, 3, 0)


def test_shuffles_in_a_row_are_all_spelled(attempt: Any) -> None:
    trial = attempt(SPELL_CHANNEL_SHUFFLE, unit(Shuffle(), nn.AvgPool2d(2)), after=CLEAN)

    assert (trial.outcome.changes, trial.count(aten.transpose.int), trial.error) == (2, 0, 0)


def test_indexing_by_a_stored_order_is_spelled_too(attempt: Any) -> None:
    class Indexed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.tensor([2, 0, 1]))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[:, self.order] * 2

    trial = attempt(SPELL_CHANNEL_SHUFFLE, Indexed())

    assert (trial.outcome.changes, trial.count(aten.index.Tensor), trial.error) == (1, 0, 0)


def test_graph_without_shuffles_is_left_alone(attempt: Any) -> None:
    trial = attempt(SPELL_CHANNEL_SHUFFLE, nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2)))

    assert (trial.outcome.changes, trial.count(aten.conv2d.default)) == (0, 1)
