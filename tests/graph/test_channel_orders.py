"""Orders demanded of a map, what follows from them, and that the graph computes the same afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.channel_orders import Orders, StuckError
from mobile_matting_export.graph.ops import CONV, is_op
from mobile_matting_export.graph.reorder_channels import reorder_channels

ORDER = torch.tensor([2, 0, 5, 1, 4, 3])
WITHIN = torch.tensor([1, 0, 3, 2, 4, 5])  # groups of two
IMAGE = torch.randn(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))


def captured(network: nn.Module) -> tuple[fx.GraphModule, list[fx.Node]]:
    torch.manual_seed(0)
    graph = capture(network.eval(), {"image": IMAGE})
    return graph, [node for node in graph.graph.nodes if is_op(node, CONV)]


@pytest.mark.parametrize(
    ("layers", "order"),
    [
        ([nn.PReLU(6, 0.3), nn.Conv2d(6, 2, 3)], ORDER),
        ([nn.Conv2d(6, 12, 3, groups=6), nn.InstanceNorm2d(12, affine=True), nn.Conv2d(12, 2, 1)], ORDER),
        ([nn.ConvTranspose2d(6, 12, 2, 2, groups=6), nn.MaxPool2d(2), nn.ConvTranspose2d(12, 2, 3)], ORDER),
        ([nn.Conv2d(6, 3, 1, groups=3)], WITHIN),
        ([nn.ConvTranspose2d(6, 3, 1, groups=3)], WITHIN),
    ],
)
def test_order_is_handed_on_and_nothing_changes(layers: list[nn.Module], order: torch.Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *layers)
    graph, (first, *_) = captured(network)
    found = Orders(graph, [])

    found.solve(first, order)
    reorder_channels(graph, found)
    graph.recompile()

    with torch.no_grad():
        torch.testing.assert_close(graph(IMAGE), network(IMAGE), rtol=0, atol=1e-5)
    assert torch.equal(graph.get_buffer(str(first.args[2].target)), network[0].bias.detach()[order])  # type: ignore[union-attr, operator, index]


@pytest.mark.parametrize(
    ("layers", "order", "reason"),
    [
        ([nn.ReLU()], ORDER, "the output of the network needs the channels in their own order"),
        ([nn.Conv2d(6, 3, 1, groups=3)], ORDER, "conv2d at 1 reads its channels in 3 groups"),
        ([nn.Softmax(1), nn.Conv2d(6, 1, 1)], ORDER, "softmax at 1 needs the channels in their own order"),
        ([nn.PixelShuffle(1), nn.Conv2d(6, 1, 1)], ORDER, "needs the channels in their own order"),
    ],
)
def test_order_that_cannot_be_handed_on_says_where(layers: list[nn.Module], order: torch.Tensor, reason: str) -> None:
    graph, (first, *_) = captured(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *layers))

    with pytest.raises(StuckError, match=reason):
        Orders(graph, []).solve(first, order)
