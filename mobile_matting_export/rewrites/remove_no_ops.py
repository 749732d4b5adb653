"""Remove what does nothing at inference: expand, clone, whole slices, empty pads.

Finds: ``clone``, ``contiguous``, ``alias``, ``detach``, dropout; ``expand`` read only by pointwise
operators, which broadcast themselves (litert-torch fails on it, depending on the context);
slices that take everything; pads of zero width; casts to the same type.
Refuses: ``expand`` into anything that is not pointwise.
Exact: yes, bit for bit.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import SLICE, argument, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import replace, retarget, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten

_COPIES = (aten.clone.default, aten.contiguous.default, aten.alias.default, aten.detach.default)
_DROPOUTS = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)
_POINTWISE = (
    aten.mul.Tensor,
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.div.Tensor,
    aten.maximum.default,
    aten.minimum.default,
)


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if is_op(node, aten.view.default, aten._unsafe_view.default):
            retarget(node, aten.reshape.default)  # a view may rely on the copy that goes before it
        if _does_nothing(node):
            replace(graph_module, node, node.args[0])
            changes += 1
        elif is_op(node, aten.copy.default):  # functional copy: the value of its second argument
            if shape(node) == shape(node.args[1]):
                replace(graph_module, node, node.args[1])
                changes += 1
        elif is_op(node, aten.expand.default, aten.expand_as.default):
            if not all(is_op(user, *_POINTWISE) and shape(user) == shape(node) for user in node.users):
                refusals.append(f"{describe(node)}: kept, it is read by more than pointwise operators")
            elif not all(_has_full_partner(user, node) for user in node.users):
                refusals.append(f"{describe(node)}: kept, no other operand has its shape")
            else:
                replace(graph_module, node, node.args[0])
                changes += 1
    return Outcome(changes, tuple(refusals))


def _does_nothing(node: fx.Node) -> bool:
    if is_op(node, *_COPIES, *_DROPOUTS):
        return True
    if is_op(node, SLICE):
        return shape(node) == shape(node.args[0])
    if is_op(node, aten.pad.default, aten.constant_pad_nd.default):
        return not any(node.args[1])
    if is_op(node, aten.expand.default, aten.expand_as.default):
        return shape(node) == shape(node.args[0])
    return is_op(node, aten.to.dtype, aten._to_copy.default) and argument(node, 1, "dtype") == _dtype(node.args[0])


def _dtype(node: fx.Node) -> torch.dtype | None:
    """Type of a captured tensor, None for one that a rewrite has made."""
    return getattr(node.meta.get("val"), "dtype", None)


def _has_full_partner(user: fx.Node, node: fx.Node) -> bool:
    """Whether ``user`` broadcasts to the same shape without ``node``; two expanded operands would not."""
    return any(isinstance(other, fx.Node) and other is not node and shape(other) == shape(node) for other in user.args)


REMOVE_NO_OPS = Rewrite(
    name="remove_no_ops",
    why="copies, dropout and explicit broadcasts are noise to matchers and break litert-torch",
    apply=_apply,
    max_error=0.0,
)
