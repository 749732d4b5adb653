"""A PReLU whose slopes are all 0 is a ReLU, and one whose slopes are all 1 is nothing.

prelu(x) = max(x, 0) + a * min(x, 0): for a = 0 that is max(x, 0), for a = 1 it is x.
Finds: ``prelu`` with constant slopes.
Refuses: any other slopes; those stay one operator, which every target has.
Exact: yes, bit for bit.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import is_op
from mobile_matting_export.graph.surgery import constant, insert_op, replace
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes = 0
    for node in list(graph_module.graph.nodes):
        if not is_op(node, aten.prelu.default):
            continue
        slopes = constant(graph_module, node.args[1])
        if slopes is None:
            continue
        if bool((slopes == 0).all()):
            replace(graph_module, node, insert_op(graph_module, node, aten.relu.default, node.args[0], like=node))
            changes += 1
        elif bool((slopes == 1).all()):
            replace(graph_module, node, node.args[0])
            changes += 1
    return Outcome(changes)


SIMPLIFY_PRELU = Rewrite(
    name="simplify_prelu",
    why="a ReLU joins the convolution before it, and nothing costs nothing",
    apply=_apply,
    max_error=0.0,
)
"""Bit for bit, but for the sign of a zero."""
