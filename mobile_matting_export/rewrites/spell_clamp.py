"""Spell clamp(x, 0, 1) in operations that every accelerator has.

clamp(x, 0, 1) = relu(x) - relu(x - 1): between 0 and 1 the second part is 0, and above 1 the subtraction of 1
is exact until numbers lie more than 1 apart (2^24 in float32, 2^11 in half floats).
Converters make one RELU_0_TO_1 of the clamp, which LiteRT ML Drift 2.2 and XNNPACK do not take
(google-ai-edge/LiteRT#8598).
Finds: ``clamp`` and ``hardtanh`` to [0, 1].
Refuses: nothing; other bounds are other operations and stay.
Exact: yes, bit for bit where x < 2^24.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import argument, is_op
from mobile_matting_export.graph.surgery import insert_op, replace
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes = 0
    for node in list(graph_module.graph.nodes):
        if not _clamps_to_unit(node):
            continue
        x = node.args[0]
        low = insert_op(graph_module, node, aten.relu.default, x, like=node)
        shifted = insert_op(graph_module, node, aten.sub.Tensor, x, 1.0, like=node)
        excess = insert_op(graph_module, node, aten.relu.default, shifted, like=node)
        replace(graph_module, node, insert_op(graph_module, node, aten.sub.Tensor, low, excess, like=node))
        changes += 1
    return Outcome(changes)


def _clamps_to_unit(node: fx.Node) -> bool:
    if is_op(node, aten.clamp.default):
        return (argument(node, 1, "min"), argument(node, 2, "max")) == (0, 1)
    if is_op(node, aten.hardtanh.default):
        return (argument(node, 1, "min_val", -1), argument(node, 2, "max_val", 1)) == (0, 1)
    return False


SPELL_CLAMP = Rewrite(
    name="spell_clamp",
    why="ML Drift and XNNPACK do not take the RELU_0_TO_1 that a clamp to [0, 1] becomes",
    apply=_apply,
    max_error=0.0,
)
