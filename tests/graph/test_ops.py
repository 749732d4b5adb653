from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.ops import CONV, DECONV, Conv, argument, channel_slice, is_op, only_user, pair

aten = torch.ops.aten


class Calling(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


def nodes_of(network: nn.Module | Callable[[torch.Tensor], torch.Tensor]) -> list[fx.Node]:
    module = network if isinstance(network, nn.Module) else Calling(network)
    graph = capture(module, {"image": torch.rand(1, 6, 37, 45)}).graph
    return [node for node in graph.nodes if node.op == "call_function"]


def test_is_op_knows_calls_only() -> None:
    (relu,) = nodes_of(torch.relu)

    assert is_op(relu, aten.add.Tensor, aten.relu.default)
    assert not is_op(relu, aten.add.Tensor)
    assert not is_op(relu.args[0], aten.relu.default)
    assert not is_op(None, aten.relu.default)
    assert not is_op(0.5, aten.relu.default)


def test_argument_is_found_by_position_by_name_or_by_default() -> None:
    graph = fx.Graph()
    image = graph.placeholder("image")
    node = graph.call_function(aten.add.Tensor, (image, image), {"alpha": 2})

    assert argument(node, 1, "other") is image
    assert argument(node, 2, "alpha", 1) == 2
    assert argument(node, 3, "absent", "default") == "default"


@pytest.mark.parametrize(("value", "expected"), [(2, (2, 2)), ([3], (3, 3)), ((2, 3), (2, 3))])
def test_pair_is_vertical_and_horizontal(value: object, expected: tuple[int, int]) -> None:
    assert pair(value) == expected


def test_only_user_is_none_for_several_readers_or_no_reader() -> None:
    relu, tanh, add = nodes_of(lambda x: torch.tanh(torch.relu(x)) + 1)
    assert only_user(relu) is tanh
    assert only_user(add) is not None and only_user(add).op == "output"  # type: ignore[union-attr]
    relu, _, _ = nodes_of(lambda x: torch.relu(x) + torch.tanh(torch.relu(x)))[:3]
    assert only_user(relu.args[0]) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 4, 1, bias=False),
        nn.Conv2d(6, 4, (3, 5), (2, 1), (1, 2), (1, 2), groups=2),
        nn.ConvTranspose2d(6, 4, 2),
        nn.ConvTranspose2d(6, 4, (4, 3), (2, 3), (1, 0), (1, 2), groups=2, bias=False, dilation=(1, 2)),
    ],
    ids=str,
)
def test_conv_reads_and_writes_all_settings(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    (node,) = nodes_of(layer)

    conv = Conv.of(node)

    assert (conv.stride, conv.padding, conv.dilation, conv.groups) == (
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )
    assert (conv.bias is None) == (layer.bias is None)
    if isinstance(layer, nn.ConvTranspose2d):
        assert conv.output_padding == layer.output_padding
    before = node.graph.owning_module(torch.ones(1, 6, 37, 45))
    node.args = conv.args_for(CONV if isinstance(layer, nn.Conv2d) else DECONV)
    node.graph.owning_module.recompile()
    assert torch.equal(node.graph.owning_module(torch.ones(1, 6, 37, 45)), before)


@pytest.mark.parametrize(
    ("take", "expected"),
    [
        (lambda x: x[:, 1:4], (1, 4)),
        (lambda x: x[:, :2], (0, 2)),
        (lambda x: x[:, -2:], (4, 6)),
        (lambda x: x[:, 2:-1], (2, 5)),
        (lambda x: x[:, 4:100], (4, 6)),
        (lambda x: x.narrow(1, 2, 3), (2, 5)),
        (lambda x: x.chunk(3, 1)[1], (2, 4)),
        (lambda x: x.split([1, 2, 3], 1)[2], (3, 6)),
        (lambda x: x[:, ::2], None),
        (lambda x: x[:, :, 1:4], None),
        (lambda x: x.chunk(3, 2)[1], None),
        (torch.relu, None),
    ],
)
def test_channel_slice_is_a_contiguous_range_of_channels(
    take: Callable[[torch.Tensor], torch.Tensor], expected: tuple[int, int] | None
) -> None:
    assert channel_slice(nodes_of(take)[-1]) == expected
