"""Keep squeeze-and-excite four-dimensional: linear layers on a pooled map become 1x1 convolutions.

Linear(W, b) on N x C equals a 1x1 convolution with W[:, :, None, None] on N x C x 1 x 1.
Finds: a ``view``/``flatten``/``squeeze``-like step (or a mean without kept axes) that takes an
N x C x 1 x 1 map to N x C, linear layers and pointwise operators on it, and the way back to 4-D.
Refuses: other operators in between (they might mean the axes they name).
Exact: yes (float32 rounding). Without it: TRANSPOSE and FULLY_CONNECTED in TFLite, and MODNet's
broadcast multiplication does not convert at all.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import CONV, RESHAPES, argument, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten

_LINEAR = aten.linear.default
_UNARY = (
    aten.relu.default,
    aten.sigmoid.default,
    aten.hardtanh.default,
    aten.hardsigmoid.default,
    aten.hardswish.default,
    aten.silu.default,
    aten.gelu.default,
    aten.tanh.default,
    aten.clamp.default,
    aten.leaky_relu.default,
    aten.prelu.default,
)
_FLATTEN = (*RESHAPES, aten.flatten.using_ints, aten.squeeze.dims, aten.squeeze.default, aten.mean.dim)
_UNFLATTEN = (*RESHAPES, aten.unsqueeze.default)


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not _leaves_four_dimensions(node):
            continue
        region, obstacle = _flat_region(node)
        if obstacle is not None:
            refusals.append(f"{describe(node)}: left flat, {describe(obstacle)} reads it")
        elif any(is_op(member, _LINEAR) for member in region):
            _lift(graph_module, node, region)
            changes += 1
    return Outcome(changes, tuple(refusals))


def _leaves_four_dimensions(node: fx.Node) -> bool:
    """Whether ``node`` turns N x C x 1 x 1 (or, by a mean, N x C x H x W) into N x C."""
    if not is_op(node, *_FLATTEN) or not isinstance(node.args[0], fx.Node):
        return False
    before, after = shape(node.args[0]), shape(node)
    if len(before) != 4 or after != before[:2]:
        return False
    if is_op(node, aten.mean.dim):  # over H and W, not over axes of the same lengths
        return {axis % 4 for axis in node.args[1]} == {2, 3}
    return before[2:] == (1, 1)


def _flat_region(start: fx.Node) -> tuple[list[fx.Node], fx.Node | None]:
    """All 2-D nodes reached from ``start`` in order, and the first reader that does not fit."""
    region: list[fx.Node] = []
    queue = [start]
    while queue:
        for user in queue.pop(0).users:
            if user in region:
                continue
            back = is_op(user, *_UNFLATTEN) and _appends_ones(shape(user.args[0]), shape(user))
            if not (back or is_op(user, _LINEAR, *_UNARY)):
                return region, user
            region.append(user)
            if not (back and len(shape(user)) == 4):
                queue.append(user)
    return region, None


def _appends_ones(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether N x C (x 1) became N x C x 1 (x 1)."""
    return len(after) in (3, 4) and after[:2] == before[:2] and set(after[2:]) == {1}


def _lift(graph_module: fx.GraphModule, start: fx.Node, region: list[fx.Node]) -> None:
    if is_op(start, aten.mean.dim):
        kept = insert_op(graph_module, start, aten.mean.dim, start.args[0], [2, 3], True, like=start)
        replace(graph_module, start, kept)
    else:
        replace(graph_module, start, start.args[0])  # type: ignore[arg-type]
    for node in region:
        if is_op(node, _LINEAR):
            weight = constant(graph_module, node.args[1])
            assert weight is not None
            kernel = add_constant(graph_module, weight[:, :, None, None], f"{node.name}_as_1x1", node)
            bias = argument(node, 2, "bias")
            args = (node.args[0], kernel, bias, [1, 1], [0, 0], [1, 1], 1)
            replace(graph_module, node, insert_op(graph_module, node, CONV, *args, like=node))
        elif is_op(node, *_UNFLATTEN):
            replace(graph_module, node, node.args[0])  # type: ignore[arg-type]
        else:
            set_args(graph_module, node, node.args)


SQUEEZE_EXCITE_TO_CONV = Rewrite(
    name="squeeze_excite_to_conv",
    why="no 2-D detour: no TRANSPOSE, no FULLY_CONNECTED, and a broadcast the converters accept",
    apply=_apply,
)
