"""A ReLU of joined maps moves into the convolutions that make them, and vanishes where nothing is negative.

relu(cat(a, b)) = cat(relu(a), relu(b)), and relu(b) = b where b >= 0. A convolution computes its own activation at no
cost, an activation behind a concatenation is an operator that reads and writes the whole map once more.
Finds: ``relu`` of a concatenation of channels whose parts are convolutions, or maps without negative numbers: ReLUs,
sigmoids, and pools, resizes, slices and concatenations of such.
Refuses: a concatenation or a convolution that others read, since they want the numbers before the ReLU; parts that are
neither, which would get a ReLU of their own.
Exact: yes, bit for bit.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import (
    AVG_POOL,
    BILINEAR,
    CAT,
    CONV,
    NEAREST,
    SIGMOID,
    SLICE,
    argument,
    is_op,
    only_user,
)
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import insert_op, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten

_NEVER_NEGATIVE = (aten.relu.default, aten.relu6.default, SIGMOID)
# each result is one of its inputs' numbers, or a mean of some
_KEEPS_SIGN = (AVG_POOL, aten.adaptive_avg_pool2d.default, aten.max_pool2d.default, BILINEAR, NEAREST, SLICE)


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    # from the back: one ReLU may stand in the part of another's concatenation
    for node in reversed(list(graph_module.graph.nodes)):
        if not is_op(node, aten.relu.default) or not _joins_channels(node.args[0]):
            continue
        if (obstacle := _obstacle(node.args[0])) is not None:
            refusals.append(f"{describe(node)}: stays behind its concatenation, {obstacle}")
            continue
        _move(graph_module, node)
        changes += 1
    return Outcome(changes, tuple(refusals))


def _joins_channels(node: object) -> bool:
    return is_op(node, CAT) and argument(node, 1, "dim", 0) in (1, 1 - len(shape(node)))  # type: ignore[arg-type]


def _obstacle(joined: fx.Node) -> str | None:
    if only_user(joined) is None:
        return f"which is read {len(joined.users)} times"
    for part in _parts(joined):
        if is_negative_nowhere(part):
            continue
        if not is_op(part, CONV):
            return f"{describe(part)} would need one of its own"
        if only_user(part) is not joined or _parts(joined).count(part) > 1:
            return f"{describe(part)} is read by others, too"
    return None


def _parts(joined: fx.Node) -> list[fx.Node]:
    return list(joined.args[0])  # type: ignore[arg-type]


def is_negative_nowhere(node: fx.Node) -> bool:
    """Whether ``node`` is known to hold no negative number, whatever the picture."""
    if is_op(node, *_NEVER_NEGATIVE):
        return True
    if is_op(node, CAT):
        return all(map(is_negative_nowhere, _parts(node)))
    return is_op(node, *_KEEPS_SIGN) and is_negative_nowhere(node.args[0])  # type: ignore[arg-type]


def _move(graph_module: fx.GraphModule, relu: fx.Node) -> None:
    joined = relu.args[0]
    assert isinstance(joined, fx.Node)
    parts = [
        part if is_negative_nowhere(part) else insert_op(graph_module, joined, aten.relu.default, part, like=relu)
        for part in _parts(joined)
    ]
    set_args(graph_module, joined, (parts, *joined.args[1:]))
    replace(graph_module, relu, joined)


MOVE_RELU_PAST_CONCAT = Rewrite(
    name="move_relu_past_concat",
    why="a convolution computes its activation at no cost; behind a concatenation it is an operator more",
    apply=_apply,
    max_error=0.0,
)
