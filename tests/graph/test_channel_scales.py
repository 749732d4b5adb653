from __future__ import annotations

import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.channel_scales import ChannelScales, group_channels


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.depth = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.first(image))
        b = self.depth(a)
        total = nn.functional.max_pool2d(a, 1) + b
        return torch.sigmoid(self.last(torch.cat((total, b), 1)))


def _groups(module: nn.Module, **inputs: torch.Tensor) -> tuple[ChannelScales, dict[str, fx.Node]]:
    graph = capture(module.eval(), inputs)
    return group_channels(graph), {node.name: node for node in graph.graph.nodes}


def test_a_sum_ties_its_sides_channel_by_channel_and_a_convolution_none() -> None:
    scales, nodes = _groups(Residual(), image=torch.rand(1, 3, 8, 8))

    def of(name: str) -> list[int]:
        return scales.groups[nodes[name]].tolist()

    assert of("relu") == of("conv2d") == of("conv2d_1") == of("add")
    assert of("cat") == of("add") + of("conv2d_1")
    assert len(set(of("relu"))) == 4
    assert not set(of("conv2d_2")) & set(of("cat"))
    assert not scales.held[scales.groups[nodes["relu"]]].any()


def test_inputs_and_what_a_sigmoid_reads_or_the_network_gives_are_held() -> None:
    scales, nodes = _groups(Residual(), image=torch.rand(1, 3, 8, 8))

    for name in ("image", "conv2d_2", "sigmoid"):
        assert scales.held[scales.groups[nodes[name]]].all(), name


class Shifted(nn.Module):
    """What a factor does not pass: a number that is added, and a product of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.other = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head((self.conv(image) + 0.5) * self.other(image))


def test_an_added_number_and_a_product_of_maps_hold_their_channels() -> None:
    scales, nodes = _groups(Shifted(), image=torch.rand(1, 3, 8, 8))

    for name in ("conv2d", "conv2d_1", "add", "mul"):
        assert scales.held[scales.groups[nodes[name]]].all(), name
