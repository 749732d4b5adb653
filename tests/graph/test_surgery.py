from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.graph.surgery import (
    add_constant,
    annotate_shapes,
    constant,
    insert_op,
    replace,
    set_args,
    shape,
    tidy,
)

aten = torch.ops.aten


@pytest.fixture
def graph() -> fx.GraphModule:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU()))
    return capture(network, {"image": torch.rand(1, 3, 37, 45)})


def node_of(graph: fx.GraphModule, target: object) -> fx.Node:
    return next(node for node in graph.graph.nodes if node.target is target)


def test_constant_is_the_tensor_of_a_get_attr_only(graph: fx.GraphModule) -> None:
    conv = node_of(graph, aten.conv2d.default)

    weight = constant(graph, conv.args[1])

    assert weight is not None and weight.shape == (4, 3, 3, 3) and not weight.requires_grad
    assert constant(graph, conv.args[0]) is None
    assert constant(graph, conv) is None
    assert constant(graph, None) is None


def test_add_constant_stores_a_float32_copy_under_a_fresh_name(graph: fx.GraphModule) -> None:
    relu = node_of(graph, aten.relu.default)
    numbers = torch.arange(6, dtype=torch.float64).view(2, 3).T

    first = add_constant(graph, numbers, "net.conv/weight", relu)
    second = add_constant(graph, numbers, "net.conv/weight", relu)

    stored = constant(graph, first)
    assert stored is not None and stored.dtype == torch.float32 and stored.is_contiguous()
    assert (first.target, second.target) == ("net_conv_weight_0", "net_conv_weight_1")
    assert shape(first) == (3, 2)
    numbers.zero_()
    assert stored.sum() == 15


def test_add_constant_keeps_integers(graph: fx.GraphModule) -> None:
    node = add_constant(graph, torch.tensor([1, 2]), "order", node_of(graph, aten.relu.default))

    stored = constant(graph, node)
    assert stored is not None and stored.dtype == torch.int64


def test_insert_op_has_the_shape_and_the_provenance_of_its_model(graph: fx.GraphModule) -> None:
    relu = node_of(graph, aten.relu.default)

    pooled = insert_op(graph, relu, aten.avg_pool2d.default, relu.args[0], [2, 2], like=relu)
    halves = insert_op(graph, relu, aten.split.Tensor, pooled, 2, 1, like=relu)

    assert (shape(pooled), module_path(pooled)) == ((1, 4, 17, 21), "1.0")
    assert shape(halves) == ((1, 2, 17, 21), (1, 2, 17, 21))
    assert [node.name for node in graph.graph.nodes].index(pooled.name) + 2 == [
        node.name for node in graph.graph.nodes
    ].index(relu.name)


def test_set_args_refreshes_the_shape(graph: fx.GraphModule) -> None:
    relu = node_of(graph, aten.relu.default)

    set_args(graph, relu, (node_of(graph, "image"),))

    assert shape(relu) == (1, 3, 37, 45)


def test_replace_then_tidy_leaves_nothing_unread(graph: fx.GraphModule) -> None:
    conv = node_of(graph, aten.conv2d.default)

    replace(graph, conv, node_of(graph, "image"))
    tidy(graph)

    assert [node.target for node in graph.graph.nodes] == ["image", aten.relu.default, "output"]
    assert list(graph.buffers()) == []
    image = torch.randn(1, 3, 37, 45)
    assert torch.equal(graph(image), image.relu())


def test_tidy_refuses_a_graph_out_of_order(graph: fx.GraphModule) -> None:
    conv, relu = node_of(graph, aten.conv2d.default), node_of(graph, aten.relu.default)
    relu.append(conv)

    with pytest.raises(RuntimeError, match="was used before it has been defined"):
        tidy(graph)


def test_copy_of_a_graph_shares_nothing(graph: fx.GraphModule) -> None:
    other = copy.deepcopy(graph)

    replace(other, node_of(other, aten.relu.default), node_of(other, aten.conv2d.default))
    tidy(other)

    assert aten.relu.default in [node.target for node in graph.graph.nodes]
    assert [tuple(node.meta["shape"]) for node in other.graph.nodes if node.op == "call_function"] == [(1, 4, 35, 43)]


def test_annotate_shapes_records_several_results_as_a_tuple_of_shapes() -> None:
    graph = fx.Graph()
    image = graph.placeholder("image")
    parts = graph.call_function(aten.split.Tensor, (image, 2, 1))
    graph.output(parts)
    module = fx.GraphModule(nn.Module(), graph)

    annotate_shapes(module, (torch.rand(1, 3, 5, 7),))

    assert shape(image) == (1, 3, 5, 7)
    assert shape(parts) == ((1, 2, 5, 7), (1, 1, 5, 7))
