from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn import functional as F

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.channels import Channels, links_of, survey

NAN = float("nan")


class Small(nn.Module):
    """Three channels of which the middle one is 0.5, and two readers of the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Conv2d(3, 2, 3, padding=1)
        with torch.no_grad():
            self.first.weight[1], self.first.bias[1] = 0, 0.5  # type: ignore[index]
            self.last.weight[:, 1:] = 0
            self.last.weight[0, 1, 1, 1] = 2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(F.relu(self.first(image)) - 0.25)


def surveyed(network: nn.Module) -> tuple[fx.GraphModule, list[fx.Node], Channels]:
    graph = capture(network, {"image": torch.rand(1, 3, 7, 9)})
    return graph, [node for node in graph.graph.nodes if node.op == "call_function"], survey(graph)


def test_constants_are_followed_through_the_operators() -> None:
    _, (first, relu, minus, last), found = surveyed(Small())

    for node, value in ((first, 0.5), (relu, 0.5), (minus, 0.25)):
        torch.testing.assert_close(found.values[node], torch.tensor([NAN, value, NAN]).double(), equal_nan=True)
    assert not found.is_constant(minus)
    assert found.values[last].isnan().all()


def test_needs_go_from_the_output_to_the_image() -> None:
    graph, (first, relu, minus, last), found = surveyed(Small())
    image = next(node for node in graph.graph.nodes if node.op == "placeholder")

    for node in (first, relu, minus):
        assert found.kept(node).tolist() == [True, False, False]
    assert found.kept(image).tolist() == [True] * 3 and found.kept(last).tolist() == [True] * 2
    assert found.unneeded == 2


def test_links_say_what_a_bias_can_take_over() -> None:
    network = Small()
    graph, (*_, last), _ = surveyed(network)

    known = links_of(graph, last, torch.tensor([1.0, 1.0, NAN]).double())
    varying = links_of(graph, last, torch.tensor([0.0, NAN, NAN]).double())

    # padding cuts off the first input; the second is read in the middle only; the third not at all
    assert known.needs.tolist() == [[[True, False, False], [True, False, False]]]
    assert varying.needs.tolist() == [[[False, True, False], [False, False, False]]]
    torch.testing.assert_close(known.gains[0].float(), network.last.weight.sum((2, 3)).detach())


def test_a_convolution_needed_for_its_constants_keeps_one_input() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    nn.init.zeros_(network[1].weight)

    _, (first, last), found = surveyed(network)

    assert found.kept(first).tolist() == [True, False, False, False]
    assert found.is_constant(last)
