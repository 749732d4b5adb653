from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.rewrites.equalize_channels import MOST, equalize_channels, measure_channels
from mobile_matting_export.rewrites.rewrite import apply_rewrites


class Uneven(nn.Module):
    """Channels 1000 times apart, through a ReLU, a depthwise convolution, a sum, a resize and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up = nn.ConvTranspose2d(12, 4, 2, stride=2)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.first(image))
        b = nn.functional.avg_pool2d(a, 3, 1, 1) + self.depth(a)
        c = self.up(torch.cat((a, b), 1))
        return torch.sigmoid(self.head(torch.relu(self.grouped(c))))


@pytest.fixture
def uneven(randomised: Callable[[nn.Module], nn.Module]) -> nn.Module:
    module = randomised(Uneven())
    spread = torch.logspace(-2, 1, 6).view(-1, 1, 1, 1)
    module.first.weight.data *= spread
    module.first.bias.data *= spread.flatten()
    return module.eval()


def _frames(count: int = 3) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(1, 3, 11, 13, generator=generator),) for _ in range(count)]


def _spread(graph: Any, name: str) -> float:
    """Largest over smallest range of the channels of a map."""
    largest = measure_channels(graph, _frames())
    (seen,) = [value for node, value in largest.items() if node.name == name]
    return float(seen.max() / seen.min())


def test_channels_get_like_ranges_and_the_result_stays_to_the_bit(uneven: nn.Module) -> None:
    graph = capture(uneven, {"image": _frames()[0][0]})
    before = _spread(graph, "relu")

    result, (step,) = apply_rewrites(graph, (equalize_channels(_frames(), 1.0),), _frames(5))

    # powers of two: the factors leave no rounding behind, and the range of a channel may be half of what it could be
    assert (step.changes, step.max_abs_error) == (4, 0.0)
    assert before > 50
    assert _spread(result, "relu") < before / 8


def test_less_strength_leaves_more_of_the_spread_and_none_leaves_all(uneven: nn.Module) -> None:
    graph = capture(uneven, {"image": _frames()[0][0]})
    spreads = []
    for strength in (0.0, 0.5, 1.0):
        result, _ = apply_rewrites(graph, (equalize_channels(_frames(), strength),), _frames(1))
        spreads.append(_spread(result, "relu"))

    assert spreads[0] == pytest.approx(_spread(graph, "relu"))
    assert spreads[0] > spreads[1] > spreads[2]


def test_a_channel_that_hardly_moves_is_not_blown_up_without_bound(uneven: nn.Module) -> None:
    uneven.first.weight.data[0] *= 1e-6
    uneven.first.bias.data[0] = 1e-6
    graph = capture(uneven, {"image": _frames()[0][0]})
    weight = uneven.first.weight.detach().clone()

    result, _ = apply_rewrites(graph, (equalize_channels(_frames(), 1.0),), _frames(1))

    conv = next(node for node in result.graph.nodes if node.name == "conv2d")
    raised = result.get_buffer(str(conv.args[1].target))
    assert float((raised[0] / weight[0]).max()) <= MOST


class Gapped(nn.Module):
    """A map that is zero on every frame, and one of truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.dead = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(image))
        dead = torch.relu(self.dead(x) * 0 - 1)
        return torch.sigmoid(self.head(torch.where(x > 0.1, x, dead)))


def test_a_map_without_any_value_and_one_of_truth_values_are_left_alone(
    randomised: Callable[[nn.Module], nn.Module],
) -> None:
    graph = capture(randomised(Gapped()).eval(), {"image": _frames()[0][0]})

    _, (step,) = apply_rewrites(graph, (equalize_channels(_frames(), 1.0),), _frames(2))

    assert step.max_abs_error == 0.0


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.head(image))


def test_nothing_changes_where_every_channel_is_held() -> None:
    graph = capture(Plain().eval(), {"image": _frames()[0][0]})

    assert equalize_channels(_frames(), 1.0).apply(graph).changes == 0
