"""Two-class softmax becomes one sigmoid of the logits' difference.

softmax(l)_1 = 1 / (1 + exp(l_0 - l_1)) = sigmoid(l_1 - l_0), and softmax(l)_0 = 1 - softmax(l)_1.
The difference is taken by the convolution that makes the logits (W_1 - W_0, b_1 - b_0), past
bilinear or nearest resizing, which is linear; where no convolution can take it, a 1x1 convolution
with weights (-1, 1) does. Resizing and activation then work on one channel.
Finds: ``softmax`` over axis 1 of a two-channel map.
Refuses: other axes or widths, silently: they are not two-class heads.
Exact: yes (1e-7).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import fx

from mobile_matting_export.graph.ops import (
    BILINEAR,
    CAT,
    CONV,
    NEAREST,
    SIGMOID,
    SOFTMAX,
    Conv,
    argument,
    channel_slice,
    is_op,
    only_user,
)
from mobile_matting_export.graph.surgery import (
    add_constant,
    constant,
    erase,
    insert_op,
    replace,
    reread,
    set_args,
    shape,
)
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes = 0
    for node in list(graph_module.graph.nodes):
        if is_op(node, SOFTMAX) and argument(node, 1, "dim") in (1, -3) and _is_two_class_map(node):
            foreground = insert_op(graph_module, node, SIGMOID, _difference(graph_module, node), like=node)
            _redirect_readers(graph_module, node, foreground)
            changes += 1
    return Outcome(changes)


def _is_two_class_map(node: fx.Node) -> bool:
    return len(shape(node)) == 4 and shape(node)[1] == 2


def _difference(graph_module: fx.GraphModule, softmax: fx.Node) -> fx.Node:
    """A one-channel node l_1 - l_0, computed as early as possible."""
    resizes: list[fx.Node] = []
    source: fx.Node = softmax.args[0]  # type: ignore[assignment]
    while is_op(source, BILINEAR, NEAREST) and only_user(source) is not None:
        resizes.insert(0, source)
        source = source.args[0]  # type: ignore[assignment]
    first = resizes[0] if resizes else softmax
    if is_op(source, CONV) and only_user(source) is not None and _can_subtract_rows(graph_module, Conv.of(source)):
        _subtract_rows(graph_module, source)
    else:
        signs = add_constant(graph_module, torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1), "class_difference", first)
        args = (source, signs, None, [1, 1], [0, 0], [1, 1], 1)
        source = insert_op(graph_module, first, CONV, *args, like=softmax)
    for resize in resizes:
        set_args(graph_module, resize, (source, *resize.args[1:]))
        source = resize
    return source


def _can_subtract_rows(graph_module: fx.GraphModule, conv: Conv) -> bool:
    known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
    return known and conv.groups == 1


def _subtract_rows(graph_module: fx.GraphModule, node: fx.Node) -> None:
    conv = Conv.of(node)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    rows = weight.double()
    folded = dataclasses.replace(
        conv, weight=add_constant(graph_module, rows[1:2] - rows[0:1], f"{node.name}_difference", node)
    )
    if bias is not None:
        numbers = bias.double()
        difference = add_constant(graph_module, numbers[1:2] - numbers[0:1], f"{node.name}_difference_bias", node)
        folded = dataclasses.replace(folded, bias=difference)
    set_args(graph_module, node, folded.args_for(CONV))


def _redirect_readers(graph_module: fx.GraphModule, softmax: fx.Node, foreground: fx.Node) -> None:
    """Slices read the one class they want; whoever reads both gets a concatenation."""
    background: fx.Node | None = None
    both: fx.Node | None = None
    for user in list(softmax.users):
        channels = channel_slice(user)
        if channels == (1, 2):
            replace(graph_module, user, foreground)
            continue
        if background is None:
            background = insert_op(graph_module, softmax, aten.rsub.Scalar, foreground, 1, like=softmax)
        if channels == (0, 1):
            replace(graph_module, user, background)
        elif is_op(user, CAT) and argument(user, 1, "dim", 0) == 1:
            parts = [
                item for part in user.args[0] for item in ((background, foreground) if part is softmax else (part,))
            ]
            set_args(graph_module, user, (parts, 1))
        else:
            if both is None:
                both = insert_op(graph_module, softmax, CAT, [background, foreground], 1, like=softmax)
            reread(user, softmax, both)
    erase(graph_module, softmax)


SOFTMAX2_TO_SIGMOID = Rewrite(
    name="softmax2_to_sigmoid",
    why="half the head's work, and one operator that every delegate takes",
    apply=_apply,
)
