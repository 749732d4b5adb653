"""The largest of a few channels becomes a maximum of slices, without losing the channel axis on the way.

max(x, dim=1) = maximum(x[:, 0:1], maximum(x[:, 1:2], ...)), kept N x 1 x H x W.
A maximum over channels followed by unsqueeze is how networks spell the confidence of a two-class softmax; in
between the map has three dimensions, around which a channel-last converter puts TRANSPOSE.
Finds: ``max(dim=1)`` whose indices nobody reads, ``amax``, over at most four channels. Slices of a concatenation
of single channels are its parts.
Refuses: more channels, indices that are read, results that go on without a channel axis.
Exact: yes, bit for bit.
"""

from __future__ import annotations

import operator
from functools import reduce

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import is_map
from mobile_matting_export.graph.ops import CAT, SLICE, argument, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import insert_op, replace, shape, tidy
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten

# may stand between the maximum and the axis that comes back
_UNARY = (
    *(aten.rsub.Scalar, aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.neg.default),
    *(aten.clamp.default, aten.relu.default, aten.sigmoid.default, aten.pow.Tensor_Scalar, aten.sqrt.default),
)
_MOST = 4  # a slice and a maximum for each: more would cost more than they save


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not _is_over_channels(node):
            continue
        flat = not argument(node, 2, "keepdim", False)
        results = [node] if is_op(node, aten.amax.default) else list(node.users)
        if (obstacle := _obstacle(node, results, flat)) is not None:
            refusals.append(f"{describe(node)}: kept, {obstacle}")
            continue
        channels = _channels(graph_module, node)
        largest = reduce(lambda a, b: insert_op(graph_module, node, aten.maximum.default, a, b, like=node), channels)
        for result in results:
            if flat:
                _hand_on(graph_module, result, largest)
            else:
                replace(graph_module, result, largest)
        tidy(graph_module)
        changes += 1
    return Outcome(changes, tuple(refusals))


def _hand_on(graph_module: fx.GraphModule, flat: fx.Node, full: fx.Node) -> None:
    """Let what reads ``flat``, up to where it gets its channel axis back, read ``full``, which has it."""
    for reader in list(flat.users):
        if is_op(reader, *_UNARY):
            args = [full if part is flat else part for part in reader.args]
            _hand_on(graph_module, reader, insert_op(graph_module, reader, reader.target, *args, like=reader))
        else:
            replace(graph_module, reader, full)


def _is_over_channels(node: fx.Node) -> bool:
    if not is_op(node, aten.max.dim, aten.amax.default) or not is_map(node.args[0]):
        return False
    axes = argument(node, 1, "dim", ())
    return {axis % 4 for axis in (axes if isinstance(axes, (list, tuple)) else [axes])} == {1}


def _obstacle(node: fx.Node, results: list[fx.Node], flat: bool) -> str | None:
    width = shape(node.args[0])[1]  # type: ignore[arg-type]
    if not 2 <= width <= _MOST:
        return f"it is over {width} channels"
    if any(result.target is operator.getitem and result.args[1] != 0 for result in results):
        return "its indices are read"
    return next((o for o in map(_lost_axis, results) if o), None) if flat else None


def _lost_axis(flat: fx.Node) -> str | None:
    """Who needs the map without its channel axis."""
    for reader in flat.users:
        if is_op(reader, *_UNARY) and reader.all_input_nodes == [flat] and not reader.kwargs:
            if (obstacle := _lost_axis(reader)) is not None:
                return obstacle
        elif not is_op(reader, aten.unsqueeze.default) or reader.args[1] not in (1, -3):
            return f"{'the output' if reader.op == 'output' else describe(reader)} reads it without a channel axis"
    return None


def _channels(graph_module: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    source: fx.Node = node.args[0]  # type: ignore[assignment]
    width = shape(source)[1]
    if is_op(source, CAT) and len(source.args[0]) == width:  # type: ignore[arg-type]
        return list(source.args[0])  # type: ignore[arg-type]
    return [insert_op(graph_module, node, SLICE, source, 1, i, i + 1, like=node) for i in range(width)]


SPELL_CHANNEL_MAX = Rewrite(
    name="spell_channel_max",
    why="a confidence gate keeps four dimensions, so no TRANSPOSE stands around it",
    apply=_apply,
    max_error=0.0,
)
