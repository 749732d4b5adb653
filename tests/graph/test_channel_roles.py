from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.channel_roles import Role, is_map, maps_read, range_source, role_of


class Calling(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("column", torch.rand(1, 6, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


def roles_of(network: nn.Module | Callable[[torch.Tensor], torch.Tensor]) -> list[Role]:
    module = network if isinstance(network, nn.Module) else Calling(network)
    graph = capture(module, {"image": torch.rand(1, 6, 9, 11)})
    return [role_of(graph, node) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    ("network", "role"),
    [
        (nn.Conv2d(6, 4, 3), Role.DENSE),
        (nn.ConvTranspose2d(6, 4, 3), Role.DENSE),
        (nn.Conv2d(6, 12, 3, groups=6), Role.DEPTHWISE),
        (nn.ConvTranspose2d(6, 6, 3, groups=6), Role.DEPTHWISE),
        (nn.Conv2d(6, 6, 3, groups=2), Role.GROUPED),
        (nn.Conv2d(6, 4, 3, padding="same"), Role.OTHER),
        (nn.PReLU(6), Role.POINTWISE),
        (nn.ReLU6(), Role.POINTWISE),
        (lambda x: x * 2, Role.POINTWISE),
        (nn.MaxPool2d(2), Role.SPATIAL),
        (nn.ZeroPad2d(1), Role.SPATIAL),
        (lambda x: x.mean((2, 3), keepdim=True), Role.SPATIAL),
        (lambda x: x.mean((2, 3)), Role.OTHER),
        (lambda x: x.mean(1, keepdim=True), Role.OTHER),
        (lambda x: x[:, 1:3], Role.RANGE),
        (lambda x: x[:, :, 1:3], Role.SPATIAL),
        (lambda x: x[:, ::2], Role.OTHER),
        (lambda x: torch.softmax(x, dim=1), Role.OTHER),
        (lambda x: F.pad(x, (0, 0, 0, 0, 0, 1)), Role.OTHER),
        (lambda x: torch.cat([x, x], dim=1), Role.CAT),
        (lambda x: torch.cat([x, x], dim=2), Role.OTHER),
        (nn.InstanceNorm2d(6, affine=True), Role.SPATIAL),
        (nn.InstanceNorm2d(6, track_running_stats=True), Role.OTHER),
        (nn.BatchNorm2d(6), Role.OTHER),
    ],
)
def test_role_of_an_operator(network: nn.Module | Callable[[torch.Tensor], torch.Tensor], role: Role) -> None:
    assert roles_of(network) == [role]


def test_convolution_with_computed_weights_is_not_understood() -> None:
    assert set(roles_of(weight_norm(nn.Conv2d(6, 4, 3)))) == {Role.OTHER}


def test_parts_of_a_split_are_ranges_of_its_source() -> None:
    graph = capture(Calling(lambda x: x.chunk(2, dim=1)[1]), {"image": torch.rand(1, 6, 9, 11)})
    image, split, part, _ = graph.graph.nodes

    assert [role_of(graph, node) for node in (image, split, part)] == [Role.INPUT, Role.SPLIT, Role.RANGE]
    assert [is_map(node) for node in graph.graph.nodes] == [True, False, True, False]
    assert range_source(part) is image
    assert maps_read(part, Role.RANGE) == maps_read(split, Role.SPLIT) == [image]


def test_split_along_a_side_is_not_understood() -> None:
    assert roles_of(lambda x: x.chunk(2, dim=2)[1]) == [Role.OTHER, Role.OTHER]


def test_stored_map_is_an_operand_and_weights_are_not() -> None:
    network = Calling(lambda x: x)
    network.conv = nn.Conv2d(6, 6, 3)
    network.function = lambda x: network.conv(x) + network.column
    graph = capture(network, {"image": torch.rand(1, 6, 9, 11)})
    conv, total = (node for node in graph.graph.nodes if node.op == "call_function")

    assert maps_read(conv, role_of(graph, conv)) == [conv.args[0]]
    assert maps_read(total, role_of(graph, total)) == [conv, total.args[1]]
    assert role_of(graph, total.args[1]) is Role.CONSTANT
