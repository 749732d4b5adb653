"""A convolution with one to four outputs computes several neighbouring columns at once, as channels.

CPU kernels compute outputs in whole vectors: 8 channels on phones, 16 here. A convolution to one channel
wastes the rest. So one position makes b columns: out[x*b + j] = sum over t of w[t] * in[x*b + j + t - p] is
a convolution with stride b along the width, whose output channel j holds the kernel moved by j columns, k + b - 1
wide. In memory, channels last, its result is the wanted map already; SPREAD_COLUMNS gives it its shape.
An activation behind stays with the convolution.
Finds: dense convolutions with stride 1 and no dilation along the width.
Takes b among the divisors of the output's width by the mean of the multiplications at both vector lengths,
wasted lanes included, and five hundred for each number that the file stores.
Refuses: where that falls by less than a fifth, or one of the vector lengths would lose.
Exact: yes (the same sums; a backend may order them differently).
Only for CPUs: a GPU fills its lanes with pixels.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import fx

from mobile_matting_export.graph.ops import CONV, SIGMOID, Conv, is_op, only_user
from mobile_matting_export.graph.provenance import describe, module_path
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, reread, set_args, shape
from mobile_matting_export.graph.tflite_ops import SPREAD_COLUMNS
from mobile_matting_export.rewrites.rewrite import Decision, Outcome, Rewrite

aten = torch.ops.aten

_VECTORS = (8, 16)  # outputs that XNNPACK computes at a time: NEON, AVX-512
# the two below are chosen, not measured: no tiny gain is worth a larger file
_STORED = 500  # multiplications of a lane that a number more in the file must save
_WORTH = 0.8

_ACTIVATIONS = (
    *(aten.relu.default, aten.relu6.default, aten.hardtanh.default, SIGMOID),
    *(aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default),
)


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals, decisions = 0, [], []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, CONV) or not _is_narrow(graph_module, node):
            continue
        together, costs = _columns(node)
        place, unit = module_path(node), "multiplications of a lane, for each input and row of the kernel"
        decisions.append(Decision(place, costs, unit, f"{together} columns"))
        if together == 1:
            refusals.append(f"{describe(node)}: computes its columns one by one, no divisor of its width is cheaper")
            continue
        _widen(graph_module, node, together)
        changes += 1
    return Outcome(changes, tuple(refusals), tuple(decisions))


def _is_narrow(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    conv = Conv.of(node)
    known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
    plain = conv.groups == 1 and conv.stride == (1, 1) and conv.dilation[1] == 1 and not isinstance(conv.padding, str)
    return known and plain and shape(node)[1] < min(_VECTORS) and shape(conv.weight)[3] > 1


def _columns(node: fx.Node) -> tuple[int, tuple[tuple[str, float], ...]]:
    """How many columns to compute at once, 1 where nothing else pays, and what one and the best number cost."""
    outputs, _, _, kernel = shape(Conv.of(node).weight)
    width, pixels = shape(node)[3], math.prod(shape(node)[2:])

    # all for each input and row of the kernel
    def multiplications(together: int) -> list[float]:
        taps = kernel + together - 1
        return [pixels * taps * math.ceil(together * outputs / lanes) * lanes / together for lanes in _VECTORS]

    def cost(together: int) -> float:
        stored = outputs * together * (kernel + together - 1)
        return sum(multiplications(together)) / len(_VECTORS) + _STORED * stored

    def is_dearer(together: int) -> bool:
        return any(new > old for new, old in zip(multiplications(together), multiplications(1), strict=True))

    possible = [n for n in range(1, max(_VECTORS) + 1) if width % n == 0 and not is_dearer(n)]
    best = min(possible, key=cost)
    costs = tuple((f"{number} columns", cost(number)) for number in sorted({1, best}))
    return (best if cost(best) <= _WORTH * cost(1) else 1), costs


def _widen(graph_module: fx.GraphModule, node: fx.Node, together: int) -> None:
    conv = Conv.of(node)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    outputs, inputs, height, width = weight.shape
    moved = torch.zeros(together, outputs, inputs, height, width + together - 1)
    for column in range(together):
        moved[column, ..., column : column + width] = weight
    wide = dataclasses.replace(
        conv,
        weight=add_constant(graph_module, moved.flatten(0, 1), f"{node.name}_columns", node),
        bias=None if bias is None else add_constant(graph_module, bias.repeat(together), f"{node.name}_shift", node),
        stride=(1, together),
    )
    set_args(graph_module, node, wide.args_for(CONV))
    last = node
    while (user := only_user(last)) is not None and is_op(user, *_ACTIVATIONS):
        set_args(graph_module, user, user.args)  # its shape is another one now
        last = user
    spread = insert_op(graph_module, last.next, SPREAD_COLUMNS, last, outputs, like=node)
    for user in list(last.users):
        if user is not spread:
            reread(user, last, spread)


COMPUTE_COLUMNS_TOGETHER = Rewrite(
    name="compute_columns_together",
    why="kernels compute outputs in vectors: a convolution to one channel takes as long as one to eight or sixteen",
    apply=_apply,
)
