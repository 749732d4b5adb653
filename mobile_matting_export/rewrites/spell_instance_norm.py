"""Spell instance norm as arithmetic: two means over the map.

y = (x - m) * rsqrt(mean((x - m)^2) + eps), never E[x^2] - m^2, which cancels.
Finds: ``instance_norm`` on 4-D maps without running statistics.
Refuses: running statistics (fold them as a batch norm first).
Exact: yes (float32 rounding, 1e-6). Without it a TFLite file holds two TRANSPOSE per norm. How the
means themselves are spelled is the target's business; see ``cascade_means`` for half precision.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import ADD, INSTANCE_NORM, MUL, SUB, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, INSTANCE_NORM):
            continue
        source, weight, bias, running_mean = node.args[:4]
        if running_mean is not None or len(shape(node)) != 4:
            refusals.append(f"{describe(node)}: kept, it uses running statistics or is not a map")
            continue

        def insert(target: object, *args: object, node: fx.Node = node) -> fx.Node:
            return insert_op(graph_module, node, target, *args, like=node)  # type: ignore[arg-type]

        centred = insert(SUB, source, insert(aten.mean.dim, source, [2, 3], True))
        variance = insert(aten.mean.dim, insert(MUL, centred, centred), [2, 3], True)
        result = insert(MUL, centred, insert(aten.rsqrt.default, insert(ADD, variance, node.args[7])))
        for parameter, target in ((weight, MUL), (bias, ADD)):
            if (numbers := constant(graph_module, parameter)) is not None:
                column = add_constant(graph_module, numbers.view(1, -1, 1, 1), f"{node.name}_affine", node)
                result = insert(target, result, column)
        replace(graph_module, node, result)
        changes += 1
    return Outcome(changes, tuple(refusals))


SPELL_INSTANCE_NORM = Rewrite(
    name="spell_instance_norm",
    why="no TFLite operator exists for it; spelled so, it needs no TRANSPOSE and stays on the GPU",
    apply=_apply,
)
