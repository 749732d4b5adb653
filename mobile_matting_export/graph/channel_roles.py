"""What an operator does to the channels of 4-D maps: passes them, joins them, mixes them, or nobody knows."""

from __future__ import annotations

import enum
import operator

import torch
from torch import fx

from mobile_matting_export.graph.ops import (
    AVG_POOL,
    BILINEAR,
    CAT,
    CONV,
    DECONV,
    INSTANCE_NORM,
    NEAREST,
    SIGMOID,
    SLICE,
    Conv,
    argument,
    channel_slice,
    is_op,
)
from mobile_matting_export.graph.surgery import constant, shape

aten = torch.ops.aten

MAX_POOL = aten.max_pool2d.default
PADS = (aten.pad.default, aten.constant_pad_nd.default)
PRELU = aten.prelu.default
_SPLITS = (aten.split.Tensor, aten.split_with_sizes.default)
_RESIZES_AND_POOLS = (
    *(BILINEAR, NEAREST, AVG_POOL, MAX_POOL),
    aten.adaptive_avg_pool2d.default,
)
_BINARY = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor),
    *(aten.maximum.default, aten.minimum.default, PRELU),
)
_UNARY = (
    *(aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.leaky_relu.default, aten.elu.default),
    *(aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default),
    *(SIGMOID, aten.hardsigmoid.default, aten.tanh.default),
    *(aten.hardswish.default, aten.silu.default, aten.gelu.default),
    *(aten.neg.default, aten.abs.default, aten.exp.default, aten.sqrt.default, aten.rsqrt.default),
    *(aten.rsub.Scalar, aten.pow.Tensor_Scalar),
)


class Role(enum.Enum):
    """How the channels of a result come from the channels of what is read."""

    INPUT = "an input of the network"
    CONSTANT = "a stored map"
    DENSE = "a convolution, transposed or not, in which every output reads every input"
    DEPTHWISE = "a convolution, transposed or not, in which an output reads one input"
    GROUPED = "a convolution with groups of several inputs"
    POINTWISE = "channel c from channel c of every operand, number by number; one channel may serve all"
    SPATIAL = "channel c from channel c of one map, over several pixels"
    CAT = "the channels of several maps, one after the other"
    SPLIT = "ranges of channels, taken apart by getitem"
    RANGE = "a range of channels"
    OTHER = "not understood"


def is_map(node: object) -> bool:
    """Whether ``node`` is a tensor of four dimensions."""
    if not isinstance(node, fx.Node) or node.op == "output":
        return False
    sides = node.meta["shape"]
    return len(sides) == 4 and not isinstance(sides[0], tuple)


def role_of(graph_module: fx.GraphModule, node: fx.Node) -> Role:
    """The role of a node that is not the graph's output."""
    if node.op == "placeholder":
        return Role.INPUT
    if node.op == "get_attr":
        return Role.CONSTANT if is_map(node) else Role.OTHER
    if is_op(node, *_SPLITS) and is_map(node.args[0]) and argument(node, 2, "dim", 0) == 1:
        return Role.SPLIT
    if not is_map(node):
        return Role.OTHER
    if is_op(node, CONV, DECONV):
        return _role_of_convolution(graph_module, node)
    if is_op(node, CAT) and argument(node, 1, "dim", 0) in (1, -3) and all(map(is_map, node.args[0])):
        return Role.CAT
    if (is_op(node, SLICE) or node.target is operator.getitem) and channel_slice(node) is not None:
        return Role.RANGE if is_map(range_source(node)) else Role.OTHER
    if is_op(node, *_BINARY, *_UNARY) and _is_pointwise(graph_module, node):
        return Role.POINTWISE
    return Role.SPATIAL if _is_spatial(graph_module, node) else Role.OTHER


def range_source(node: fx.Node) -> fx.Node:
    """The map from which a channel slice, or a part of a split, takes its channels."""
    source: fx.Node = node.args[0]  # type: ignore[assignment]
    return source.args[0] if is_op(source, *_SPLITS) else source  # type: ignore[return-value]


def maps_read(node: fx.Node, role: Role) -> list[fx.Node]:
    """The maps whose channels ``node`` takes, without weights; one may come twice."""
    if role is Role.RANGE:
        return [range_source(node)]
    if role is Role.POINTWISE:
        return [side for side in node.args if is_map(side)]  # type: ignore[misc]
    if role is Role.CAT:
        return list(node.args[0])  # type: ignore[arg-type]
    if role in (Role.DENSE, Role.DEPTHWISE, Role.GROUPED, Role.SPATIAL, Role.SPLIT):
        return [node.args[0]]  # type: ignore[list-item]
    return [part for part in node.all_input_nodes if part.op != "get_attr"]


def _role_of_convolution(graph_module: fx.GraphModule, node: fx.Node) -> Role:
    conv = Conv.of(node)
    known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
    if not known or not is_map(conv.input) or isinstance(conv.padding, str):
        return Role.OTHER
    if conv.groups == 1:
        return Role.DENSE
    return Role.DEPTHWISE if conv.groups == shape(conv.input)[1] else Role.GROUPED


def _is_pointwise(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    channels = shape(node)[1]
    sides = [side for side in node.args if isinstance(side, fx.Node)]
    if node.target is PRELU:
        return constant(graph_module, sides[1]) is not None
    maps = [side for side in sides if is_map(side)]
    numbers = all(is_map(side) or (side.op == "get_attr" and shape(side) == ()) for side in sides)
    return numbers and {shape(side)[1] for side in maps} <= {1, channels}


def vectors_of(node: fx.Node) -> tuple[int, ...]:
    """Positions of a pointwise or spatial operator's arguments that hold a number a channel, or one for all."""
    return (1,) if is_op(node, PRELU) else (1, 2) if is_op(node, INSTANCE_NORM) else ()


def _is_spatial(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if not node.args or not is_map(node.args[0]):
        return False
    if is_op(node, INSTANCE_NORM):
        known = all(part is None or constant(graph_module, part) is not None for part in node.args[1:3])
        return known and node.args[3] is None  # no running statistics: those of the map itself
    if is_op(node, *_RESIZES_AND_POOLS):
        return True
    if is_op(node, aten.mean.dim):
        axes = argument(node, 1, "dim")
        return bool(axes) and {axis % 4 for axis in axes} <= {2, 3} and bool(argument(node, 2, "keepdim", False))
    if is_op(node, *PADS):
        return not any(node.args[1][4:])  # type: ignore[index]
    return is_op(node, SLICE) and argument(node, 1, "dim", 0) % 4 in (2, 3)
