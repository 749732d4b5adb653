"""A pad with as many zeros on both sides becomes the padding of the convolutions behind it.

conv_p(pad_q(x)) = conv_(p+q)(x): a convolution's own padding is zeros, too.
Finds: constant zero pads of height and width.
Refuses: sides that differ (a convolution pads both alike; TFLite knows the pads of strided
convolutions, none before and one after, as its SAME padding and fuses them itself), sides that are
cut, padded channels, and readers that are no convolutions: those would no longer see the zeros.
Exact: yes (the same sums; a backend may order them differently).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import fx

from mobile_matting_export.graph.ops import CONV, Conv, argument, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import erase, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten

_PADS = (aten.pad.default, aten.constant_pad_nd.default)


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in reversed(list(graph_module.graph.nodes)):  # of two pads in a row, the one that is read by a convolution
        if not is_op(node, *_PADS) or not _adds_zeros(node):
            continue
        if (obstacle := _obstacle(node)) is not None:
            refusals.append(f"{describe(node)}: kept, {obstacle}")
            continue
        _merge(graph_module, node)
        changes += 1
    return Outcome(changes, tuple(refusals))


def _adds_zeros(node: fx.Node) -> bool:
    if len(shape(node)) != 4:
        return False
    if is_op(node, aten.constant_pad_nd.default):
        return not argument(node, 2, "value", 0)
    return argument(node, 2, "mode", "constant") == "constant" and not argument(node, 3, "value")


def _sides(node: fx.Node) -> tuple[int, int, int, int]:
    """Left, right, top, bottom; a pad of the width alone names only two."""
    left, right, top, bottom = [*node.args[1], 0, 0][:4]
    return (left, right, top, bottom)


def _obstacle(node: fx.Node) -> str | None:
    left, right, top, bottom = _sides(node)
    if any(node.args[1][4:]):
        return "it pads channels"
    if min(left, top) < 0:
        return "it cuts"
    if (left, top) != (right, bottom):
        return f"its sides differ (left {left}, right {right}, top {top}, bottom {bottom})"
    for user in node.users:
        if not is_op(user, CONV) or node in user.args[1:]:
            return f"{describe(user)} reads it"
    return None


def _merge(graph_module: fx.GraphModule, node: fx.Node) -> None:
    left, _, top, _ = _sides(node)
    for user in list(node.users):
        conv = Conv.of(user)
        assert not isinstance(conv.padding, str)  # a spelled padding is another operator
        padding = (conv.padding[0] + top, conv.padding[1] + left)
        merged = dataclasses.replace(conv, input=node.args[0], padding=padding)
        set_args(graph_module, user, merged.args_for(CONV))
    erase(graph_module, node)


MERGE_PAD = Rewrite(
    name="merge_pad",
    why="one operator fewer and no padded copy of the map",
    apply=_apply,
)
