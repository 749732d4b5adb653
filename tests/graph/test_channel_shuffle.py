from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.channel_shuffle import Shuffle, shuffles_of

IMAGE = torch.arange(2 * 12 * 5 * 7, dtype=torch.float32).view(2, 12, 5, 7)[:1]


class Function(nn.Module):
    """A function of the image."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("order", torch.tensor([3, 0, 7, 1, 2, 11, 5, 4, 10, 9, 8, 6]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(self, image)


def found_in(function: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> tuple[fx.GraphModule, list[Shuffle]]:
    graph = capture(Function(function), {"image": IMAGE})
    return graph, shuffles_of(graph)


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: x.view(1, 3, 4, 5, 7).transpose(1, 2).reshape(1, 12, 5, 7),
        lambda net, x: x.reshape(1, 4, 3, 5, 7).permute(0, 2, 1, 3, 4).reshape(1, 12, 5, 7),
        lambda net, x: x.view(1, 6, 2, 35).transpose(-2, -3).reshape(1, 12, 5, 7),
        lambda net, x: x.view(1, 2, 3, 2, 5, 7).permute(0, 3, 1, 2, 4, 5).reshape(1, 12, 5, 7),
        lambda net, x: torch.channel_shuffle(x, 3),
        lambda net, x: torch.index_select(x, 1, net.order),
        lambda net, x: x[:, net.order],
    ],
    ids=["transpose", "permute", "flat pixels", "three factors", "operator", "index_select", "index"],
)
def test_shuffle_is_found_with_its_order(function: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
    graph, (shuffle,) = found_in(function)

    assert torch.equal(graph(IMAGE), IMAGE[:, shuffle.order])
    assert shuffle.source.op == "placeholder"
    assert shuffle.source in shuffle.start.all_input_nodes


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: x.view(1, 12, 5, 7).transpose(2, 3).reshape(1, 12, 5, 7),
        lambda net, x: x.view(1, 3, 4, 7, 5).transpose(1, 2).reshape(1, 12, 7, 5),
        lambda net, x: x.view(1, 3, 4, 5, 7).transpose(2, 3).reshape(1, 12, 5, 7),
        lambda net, x: x.view(1, 3, 4, 5, 7).transpose(1, 2).reshape(1, 6, 10, 7),
        lambda net, x: x.view(1, 5, 84).transpose(1, 2).reshape(1, 12, 5, 7),
        lambda net, x: torch.index_select(x, 1, net.order[:4]),
        lambda net, x: x[:, net.order % 3],
        lambda net, x: x[:, :, net.order % 3],
    ],
    ids=["pixels", "other sides", "channels and rows", "other width", "mixed", "some", "repeated", "rows"],
)
def test_what_does_more_than_reorder_channels_is_no_shuffle(
    function: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    assert found_in(function)[1] == []


def test_shuffle_whose_middle_is_read_elsewhere_is_none() -> None:
    def function(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        dealt = x.view(1, 3, 4, 5, 7).transpose(1, 2)
        return dealt.reshape(1, 12, 5, 7) * dealt.sum()

    assert found_in(function)[1] == []
