"""Writing into a range of channels becomes a concatenation of what is kept and what is written.

``x[:, i:j] = y`` is captured as slice_scatter(x, y, 1, i, j) = cat(x[:, :i], y, x[:, j:]).
Finds: ``slice_scatter`` with step 1 on any axis.
Refuses: other steps.
Exact: yes, bit for bit. Neither ncnn nor TFLite has a scatter that a delegate would take.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import CAT, SLICE, argument, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import insert_op, replace, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, torch.ops.aten.slice_scatter.default):
            continue
        target, written = node.args[0], node.args[1]
        if argument(node, 5, "step", 1) != 1:
            refusals.append(f"{describe(node)}: kept, it writes every {argument(node, 5, 'step', 1)}th channel")
            continue
        axis, length = argument(node, 2, "dim", 0), shape(node)[argument(node, 2, "dim", 0)]
        start = argument(node, 3, "start") or 0
        start = max(start + length, 0) if start < 0 else min(start, length)
        end = start + shape(written)[axis]
        if is_op(written, SLICE) and written.args[0] is target and written.args[1:4] == node.args[2:5]:
            replace(graph_module, node, target)  # ``x[:, i:j] *= y`` also assigns what it has just written
            changes += 1
            continue
        parts = [written]
        if start > 0:
            parts.insert(0, insert_op(graph_module, node, SLICE, target, axis, 0, start, like=node))
        if end < length:
            parts.append(insert_op(graph_module, node, SLICE, target, axis, end, length, like=node))
        replace(
            graph_module,
            node,
            insert_op(graph_module, node, CAT, parts, axis, like=node) if len(parts) > 1 else written,
        )
        changes += 1
    return Outcome(changes, tuple(refusals))


SPELL_SLICE_WRITES = Rewrite(
    name="spell_slice_writes",
    why="in-place writes to parts of a map are no operator of any phone runtime",
    apply=_apply,
    max_error=0.0,
)
