"""A channel shuffle that stays becomes a 1x1 convolution whose weight is the permutation.

x[:, order] = conv(x, P), P[c, order[c]] = 1. It costs C^2 multiply-accumulates a pixel; making the convolution with
groups behind it dense costs C O (1 - 1/g), which is more for every O >= 2 C, and ``merge_linear_convs`` takes the
cheaper of the two. Where operators that hand the order on make the map smaller (a depthwise convolution of stride
2, a pool), the permutation goes behind them, their kernels permuted.
It is for every target: converters to ncnn and ONNX take views and transposes, not PyTorch's own ``channel_shuffle``.
Finds: every channel shuffle. Refuses: none.
Exact: yes, bit for bit but for the sign of zeros.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from mobile_matting_export.graph.channel_orders import Orders
from mobile_matting_export.graph.channel_roles import Role, maps_read, role_of
from mobile_matting_export.graph.channel_shuffle import Shuffle, shuffles_of
from mobile_matting_export.graph.ops import CONV, only_user
from mobile_matting_export.graph.reorder_channels import reorder_channels
from mobile_matting_export.graph.surgery import add_constant, insert_op, reread, shape, tidy
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes = 0
    while shuffles := shuffles_of(graph_module):
        _spell(graph_module, shuffles[0])
        tidy(graph_module)
        changes += 1
    return Outcome(changes)


def _spell(graph_module: fx.GraphModule, shuffle: Shuffle) -> None:
    """Put a 1x1 convolution that does nothing behind the shuffle, and let its columns absorb the order."""
    passed = [shuffle.end, *_smaller_behind(graph_module, shuffle.end)]
    last = passed[-1]
    readers = list(last.users)
    stored = add_constant(
        graph_module, torch.eye(len(shuffle.order))[..., None, None], f"{shuffle.end.name}_identity", last.next
    )
    nothing = insert_op(graph_module, last.next, CONV, last, stored, None, [1, 1], [0, 0], [1, 1], 1, like=shuffle.end)
    for reader in readers:
        reread(reader, last, nothing)
    unmoved = dict.fromkeys(passed, shuffle.order.argsort())
    reorder_channels(graph_module, Orders(graph_module, [shuffle], unmoved, {shuffle.end}))


def _smaller_behind(graph_module: fx.GraphModule, end: fx.Node) -> list[fx.Node]:
    """Operators behind a shuffle that hand its order on, up to the first with the smallest map, if it is smaller."""
    passed, smallest, node = [end], 0, end
    while (reader := only_user(node)) is not None and _hands_on(graph_module, reader):
        passed.append(reader)
        node = reader
        if _pixels(node) < _pixels(passed[smallest]):
            smallest = len(passed) - 1
    return passed[1 : smallest + 1]


def _hands_on(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    role = Role.OTHER if node.op == "output" else role_of(graph_module, node)
    if role not in (Role.DEPTHWISE, Role.POINTWISE, Role.SPATIAL):
        return False
    sources = maps_read(node, role)
    return len(sources) == 1 and shape(sources[0])[1] == shape(node)[1]


def _pixels(node: fx.Node) -> int:
    return math.prod(shape(node)[2:])


SPELL_CHANNEL_SHUFFLE = Rewrite(
    name="spell_channel_shuffle",
    why="no target takes every spelling of a shuffle; GPU delegates refuse TFLite's, five dimensions and a TRANSPOSE",
    apply=_apply,
)
