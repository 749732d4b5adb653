"""A convolution of a concatenation becomes the sum of convolutions of its parts.

conv(cat(a, b), [A B]) + c = conv(a, A) + c + conv(b, B): the same multiplications, and the joined map is never
written. XNNPACK copies a concatenation pixel by pixel, in as many pieces as there are parts; sums run in vectors.
ncnn takes apart what it packs 4, 8 or 16 channels to a pixel when a part or the whole is no multiple (32 + 3).
Finds: dense convolutions that alone read a concatenation of channels, where the numbers added, outputs times
(parts - 1), are no more than 9/8 of the numbers copied: the largest share for which it was measured.
For XNNPACK 1x1 convolutions only: the 3x3 one of segmatting's feathering, split, made the network slower (1.13 of
the time). All 13 places of mmnet together: 0.89 of the time on one thread of an x86 CPU (80 runs in turns, interval
0.88 to 0.90). For ncnn any kernel, same thread: mmnet 0.88 (0.85 to 0.90), modnet's 6 places 0.88 (0.87 to 0.89).
Refuses: parts that another rewrite would take the new convolution past or merge it with (a resize, a pool, a
convolution), parts of which nothing is needed, computed weights.
Exact: yes (float32 rounding).
Only for CPUs: GPUs were not measured.
"""

from __future__ import annotations

import dataclasses
import functools

from torch import fx

from mobile_matting_export.graph.ops import (
    ADD,
    AVG_POOL,
    BILINEAR,
    CAT,
    CONV,
    DECONV,
    NEAREST,
    Conv,
    argument,
    is_op,
    only_user,
)
from mobile_matting_export.graph.provenance import describe, module_path
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, shape, tidy
from mobile_matting_export.rewrites.rewrite import Decision, Outcome, Rewrite

# numbers added for each number copied; 9/8: 64 channels in four parts to 24
_ADDED, _COPIED = 9, 8
_JOINED = "joined"

_LINEAR = (CONV, DECONV)
_MOVABLE = (*_LINEAR, BILINEAR, NEAREST, AVG_POOL)  # 1x1 convolutions move past these, too


def _apply(kernels: str, graph_module: fx.GraphModule) -> Outcome:
    changes, refusals, decisions = 0, [], []
    left = [node for node in graph_module.graph.nodes if _joins(node)]
    while left:
        node = left.pop(0)
        if kernels == "1x1" and not _is_pointwise(node):
            continue
        obstacle = _obstacle(graph_module, node)
        if obstacle is None:
            decisions.append(decision := _decide(node))
            if decision.taken == _JOINED:
                added, copied = _counts(node)
                obstacle = f"{added} numbers a pixel would be added to save copying {copied}"
        if obstacle is not None:
            refusals.append(f"{describe(node)}: its concatenation stays, {obstacle}")
            continue
        before = set(graph_module.graph.nodes)
        _split(graph_module, node)
        tidy(graph_module)  # the concatenation that nobody reads any more reads its parts still
        changes += 1
        # a part may be a concatenation itself
        left += [new for new in graph_module.graph.nodes if new not in before and _joins(new)]
    return Outcome(changes, tuple(refusals), tuple(decisions))


def _counts(node: fx.Node) -> tuple[int, int]:
    """The numbers a pixel that sums add, and that a concatenation copies."""
    conv = Conv.of(node)
    return shape(node)[1] * (len(conv.input.args[0]) - 1), shape(conv.input)[1]  # type: ignore[arg-type]


def _decide(node: fx.Node) -> Decision:
    added, copied = _counts(node)
    costs = ((_JOINED, float(copied)), ("split", _COPIED / _ADDED * added))
    return Decision(
        module_path(node), costs, "numbers copied a pixel", min(reversed(costs), key=lambda cost: cost[1])[0]
    )


def _joins(node: fx.Node) -> bool:
    """Whether ``node`` is a dense convolution of joined channels."""
    if not is_op(node, CONV) or not is_op(node.args[0], CAT):
        return False
    conv = Conv.of(node)
    return conv.groups == 1 and argument(conv.input, 1, "dim", 0) in (1, -3)


def _is_pointwise(node: fx.Node) -> bool:
    conv = Conv.of(node)
    return conv.padding == (0, 0) and shape(conv.weight)[2:] == (1, 1)


def _obstacle(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    conv = Conv.of(node)
    parts: list[fx.Node] = list(conv.input.args[0])  # type: ignore[arg-type]
    weight = constant(graph_module, conv.weight)
    if only_user(conv.input) is not node:
        return f"it is read {len(conv.input.users)} times"
    if weight is None or (conv.bias is not None and constant(graph_module, conv.bias) is None):
        return "a weight or bias is computed"
    for part, channels in zip(parts, _channels(parts), strict=True):
        if is_op(part, *(_MOVABLE if _is_pointwise(node) else _LINEAR)):
            return f"{describe(part)} is a part that convolutions merge with or move past"
        if not weight[:, channels].any():
            return f"nothing of {describe(part)} is needed"
    return None


def _channels(parts: list[fx.Node]) -> list[slice]:
    """The channels of the joined map that each part holds."""
    result, first = [], 0
    for part in parts:
        result.append(slice(first, first + shape(part)[1]))
        first += shape(part)[1]
    return result


def _split(graph_module: fx.GraphModule, node: fx.Node) -> None:
    conv = Conv.of(node)
    parts: list[fx.Node] = list(conv.input.args[0])  # type: ignore[arg-type]
    weight = constant(graph_module, conv.weight)
    assert weight is not None
    total: fx.Node | None = None
    for part, channels in zip(parts, _channels(parts), strict=True):
        stored = add_constant(graph_module, weight[:, channels], f"{node.name}_part_weight", node)
        bias = conv.bias if total is None else None
        args = dataclasses.replace(conv, input=part, weight=stored, bias=bias).args_for(CONV)
        product = insert_op(graph_module, node, CONV, *args, like=node)
        total = product if total is None else insert_op(graph_module, node, ADD, total, product, like=node)
    assert total is not None
    replace(graph_module, node, total)


SPLIT_CONV_OVER_CONCAT = Rewrite(
    name="split_conv_over_concat",
    why="on CPUs adding results is cheaper than copying what they are made of",
    apply=functools.partial(_apply, "1x1"),
)
SPLIT_ANY_CONV_OVER_CONCAT = dataclasses.replace(
    SPLIT_CONV_OVER_CONCAT, name="split_any_conv_over_concat", apply=functools.partial(_apply, "any")
)
