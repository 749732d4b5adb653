"""Weights that are almost zero become zero, so that channels which carry almost nothing can go (``--slim``).

A channel of a convolution goes when all weights that make it, or all that read it, are zero: the rewrite that
eliminates dead channels must run behind this one. Biases stay.
Finds: constant weights of convolutions, transposed or not, and linear layers with 0 < |w| < tolerance.
Refuses: a tolerance that would leave a layer without any weight (it would give a constant for every picture).
Exact: no. The error is whatever the network makes of it: it stands in the ledger, and the artifact's limits judge
it. Trained MMNet and SegMattingNet lose no channel at any tolerance that keeps the matte; pruned networks do.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import CONV, DECONV, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, set_args
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

_WEIGHTED = (CONV, DECONV, torch.ops.aten.linear.default)


def zero_small_weights(tolerance: float) -> Rewrite:
    """The rewrite for one tolerance, in units of the weights after batch norm was folded into them."""

    def apply(graph_module: fx.GraphModule) -> Outcome:
        changes, refusals = 0, []
        for node in list(graph_module.graph.nodes):
            weight = constant(graph_module, node.args[1]) if is_op(node, *_WEIGHTED) else None
            if weight is None:
                continue
            small = (weight.abs() < tolerance) & (weight != 0)
            if not small.any():
                continue
            kept = weight.masked_fill(small, 0)
            if not kept.any():
                refusals.append(f"{describe(node)}: kept, all its weights are below {tolerance:g}")
                continue
            new = add_constant(graph_module, kept, f"{node.name}_slim_weight", node)
            set_args(graph_module, node, (node.args[0], new, *node.args[2:]))
            changes += 1
        return Outcome(changes, tuple(refusals))

    return Rewrite(
        name="zero_small_weights",
        why=f"weights below {tolerance:g} become zero, as asked for with --slim: channels that are left empty go",
        apply=apply,
        exact=False,
    )
