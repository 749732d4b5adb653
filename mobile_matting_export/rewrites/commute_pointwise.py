"""A 1x1 convolution behind an upsampling moves in front of it, where there are fewer pixels.

Resizes, average pools, crops and repeated borders make each pixel a weighted mean of pixels, with
the same weights in every channel: up(x) = x M, and every column of M sums to 1. So
conv(up(x)) = W x M + b = (W x + b) M = up(conv(x)), bias included.
Finds: a 1x1 convolution (stride 1, no padding, any groups) whose input is made of one map by
bilinear and nearest resizes, unpadded average pools, and slices, concatenations and repeating
pads along height and width, in any combination: several upsamplings in a row, and TensorFlow 1's
bilinear in its portable form (repeat the last row and column, resize to 2n + 1, crop).
Of all places on the way it takes the cheapest. Its multiply-accumulates must fall (a pool alone
never lets them); against what falls, it counts the elements that the operators passed write more
(more outputs than inputs), and an activation behind, which is not fused any more.
Refuses: an operator on the way that something else reads, computed weights, a move that does not pay.
Exact: yes (float32 rounding; 7.5e-7 at most on the listed networks).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx

from mobile_matting_export.graph.ops import (
    AVG_POOL,
    BILINEAR,
    CAT,
    CONV,
    NEAREST,
    SLICE,
    Conv,
    argument,
    is_op,
    only_user,
    pair,
)
from mobile_matting_export.graph.provenance import describe, module_path
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Decision, Outcome, Rewrite

aten = torch.ops.aten

# in multiply-accumulates of a 1x1 convolution that take as long; XNNPACK, one x86 thread, 16 and 64 channels
_WRITTEN = 32  # an element of a resize: 27 to 45
_UNFUSED = 8  # an element of an activation of its own: 6 to 7

_DEARER = "it would be dearer before it"
_ACTIVATIONS = (aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.clamp.default)


@dataclass(frozen=True)
class _Place:
    """Where the convolution could stand: behind ``source``, before the operators ``passed``.

    ``obstacle`` says why it cannot. ``written`` is what the convolution and the operators passed cost as they are, and
    ``moved`` with it there, in multiply-accumulates.
    """

    source: fx.Node
    passed: tuple[fx.Node, ...]
    obstacle: str | None
    written: float
    moved: float

    @property
    def saving(self) -> float:
        """What moving it saves."""
        return self.written - self.moved


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals, decisions = 0, [], []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, CONV) or not _is_pointwise(Conv.of(node)):
            continue
        places = list(_places(graph_module, node))
        possible = [place for place in places if place.obstacle is None]
        if possible:
            best = max(possible, key=lambda place: place.saving)
            decisions.append(_decision(node, best, "moved"))
            _move(graph_module, node, best)
            changes += 1
        elif places:
            nearly = max(places, key=lambda place: place.saving)
            if nearly.obstacle == _DEARER:
                decisions.append(_decision(node, nearly, "as written"))
            refusals.append(f"{describe(node)}: stays behind {describe(node.args[0])}, {nearly.obstacle}")
    return Outcome(changes, tuple(refusals), tuple(decisions))


def _decision(node: fx.Node, place: _Place, taken: str) -> Decision:
    costs = (("as written", place.written), ("moved", place.moved))
    return Decision(module_path(node), costs, "multiply-accumulates of a 1x1 convolution", taken)


def _is_pointwise(conv: Conv) -> bool:
    return shape(conv.weight)[2:] == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)


def _places(graph_module: fx.GraphModule, node: fx.Node) -> Iterator[_Place]:
    """All places with fewer pixels, from the nearest to the farthest."""
    conv = Conv.of(node)
    obstacle = _computed(graph_module, conv)
    passed: list[fx.Node] = []
    unread = {conv.input}  # what the operators passed read of others
    while _takes_means(last := max(unread)):  # nodes compare by their order in the graph
        if obstacle is None and not all(user is node or user in passed for user in last.users):
            obstacle = f"{describe(last)} is read elsewhere"
        passed.insert(0, last)
        unread = unread - {last} | set(last.all_input_nodes)
        if len(unread) != 1:
            continue  # a row was cut off and is not back yet
        (source,) = unread
        if _pixels(source) < _pixels(node):
            written, moved = _costs(node, source, passed)
            dear = _DEARER if moved >= written else None
            yield _Place(source, tuple(passed), dear or obstacle, written, moved)


def _computed(graph_module: fx.GraphModule, conv: Conv) -> str | None:
    known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
    return None if known else "its weight or bias is computed"


def _takes_means(node: fx.Node) -> bool:
    """Whether each pixel of ``node`` is a weighted mean of its inputs' pixels, channel by channel."""
    if len(node.meta.get("shape", ())) != 4:
        return False
    if is_op(node, SLICE, CAT):
        return argument(node, 1, "dim", 0) in (2, 3, -2, -1)
    if is_op(node, aten.pad.default):
        return argument(node, 2, "mode", "constant") != "constant" and len(node.args[1]) <= 4
    if is_op(node, AVG_POOL):
        plain = pair(argument(node, 3, "padding", 0)) == (0, 0) and not argument(node, 4, "ceil_mode", False)
        return plain and argument(node, 6, "divisor_override") is None
    return is_op(node, BILINEAR, NEAREST)


def _costs(node: fx.Node, source: fx.Node, passed: list[fx.Node]) -> tuple[float, float]:
    """As written, and with the convolution behind ``source``."""
    weights, (outputs, inputs) = math.prod(shape(Conv.of(node).weight)), (shape(node)[1], shape(source)[1])
    resized = _WRITTEN * sum(_pixels(each) for each in passed)
    written = weights * _pixels(node) + inputs * resized
    moved = weights * _pixels(source) + outputs * resized
    if is_op(only_user(node), *_ACTIVATIONS):
        moved += _UNFUSED * outputs * _pixels(node)
    return float(written), float(moved)


def _pixels(node: fx.Node) -> int:
    return math.prod(shape(node)[2:])


def _move(graph_module: fx.GraphModule, node: fx.Node, place: _Place) -> None:
    conv, first = Conv.of(node), place.passed[0]

    def again(part: fx.Node | None) -> fx.Node | None:  # the node of the constant may stand too far behind
        numbers = constant(graph_module, part)
        return None if numbers is None else add_constant(graph_module, numbers, f"{node.name}_before", first)

    moved = dataclasses.replace(conv, input=place.source, weight=again(conv.weight), bias=again(conv.bias))
    before = insert_op(graph_module, first, CONV, *moved.args_for(CONV), like=node)
    for each in place.passed:
        set_args(graph_module, each, fx.map_arg(each.args, lambda arg: before if arg is place.source else arg))
    replace(graph_module, node, conv.input)


COMMUTE_POINTWISE = Rewrite(
    name="commute_pointwise",
    why="heads written behind an upsampling compute the same at a quarter or a sixteenth of the pixels",
    apply=_apply,
)
