"""Pin every resize to a constant output size, and drop those that change nothing.

``interpolate(scale_factor=s)`` maps coordinates by 1/s, ``interpolate(size=n)`` by in/n: the same
when in * s is a whole number, so the size is written out and the factor dropped.
Finds: bilinear and nearest resizes given by factors.
Refuses: factors whose product with the size is not whole (coordinates would shift).
Exact: yes, bit for bit.
"""

from __future__ import annotations

from torch import fx

from mobile_matting_export.graph.ops import BILINEAR, NEAREST, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, BILINEAR, NEAREST):
            continue
        before, after = shape(node.args[0])[2:], shape(node)[2:]
        if before == after:
            replace(graph_module, node, node.args[0])
            changes += 1
            continue
        factors = node.args[-1]
        if factors is None:
            continue
        if any(size * factor != out for size, factor, out in zip(before, factors, after, strict=True)):
            refusals.append(f"{describe(node)}: kept, {before} times {list(factors)} is not whole")
            continue
        set_args(graph_module, node, (node.args[0], list(after), *node.args[2:-1], None))
        changes += 1
    return Outcome(changes, tuple(refusals))


PIN_UPSAMPLE = Rewrite(
    name="pin_upsample",
    why="converters then emit one RESIZE with a constant size, whatever the network wrote",
    apply=_apply,
    max_error=0.0,
)
