"""Write the feathering block with plain convolutions and one product.

Fast Deep Matting (arXiv 1707.08289), eq. 2: alpha = a f + b (1 - f) + c, where a, b, c are three
channels of one convolution and f is the foreground probability. Then
alpha = (a - b) f + (b + c): the rows of the convolution are combined once (3 -> 2 outputs), also
behind the window average of eq. 5, which is linear and the same for a, b and c.
And x * cat(f, f, f) = x * f, since multiplication broadcasts.
Finds: that sum over channel slices of one convolution; products with a tensor repeated by concat.
Refuses: a convolution that is read elsewhere.
Exact: yes (8e-7 measured). Needs softmax2_to_sigmoid before it, which makes 1 - f visible.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import fx

from mobile_matting_export.graph.ops import (
    ADD,
    AVG_POOL,
    CAT,
    CONV,
    MUL,
    SLICE,
    Conv,
    argument,
    channel_slice,
    is_op,
    only_user,
)
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

_ONE_MINUS = torch.ops.aten.rsub.Scalar


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = _broadcast_products(graph_module), []
    for node in list(graph_module.graph.nodes):
        if (match := _match_alpha(node)) is None:
            continue
        if (obstacle := _obstacle(match)) is not None:
            refusals.append(f"{describe(node)}: feathering kept as written, {obstacle}")
        else:
            _combine(graph_module, node, match)
            changes += 1
    return Outcome(changes, tuple(refusals))


def _broadcast_products(graph_module: fx.GraphModule) -> int:
    changes = 0
    for node in list(graph_module.graph.nodes):
        if not is_op(node, MUL):
            continue
        for index, side in enumerate(node.args):
            if is_op(side, CAT) and argument(side, 1, "dim", 0) == 1 and len(set(side.args[0])) == 1:  # type: ignore[union-attr,arg-type]
                single, other = side.args[0][0], node.args[1 - index]  # type: ignore[union-attr,index]
                if shape(single)[1] == 1 and isinstance(other, fx.Node) and shape(other) == shape(node):
                    set_args(graph_module, node, (other, single))
                    changes += 1
                    break
    return changes


@dataclass(frozen=True)
class _Alpha:
    """alpha = a f + b (1 - f) + c over channels ``a``, ``b``, ``c`` of ``source``."""

    source: fx.Node
    foreground: fx.Node
    a: int
    b: int
    c: int
    slices: tuple[fx.Node, ...]


def _match_alpha(node: fx.Node) -> _Alpha | None:
    terms = _terms(node)
    if len(terms) != 3:
        return None
    products = [term for term in terms if is_op(term, MUL)]
    lone = [term for term in terms if not is_op(term, MUL)]
    if len(products) != 2 or len(lone) != 1 or _channel(lone[0]) is None:
        return None
    by_factor: dict[str, tuple[fx.Node, fx.Node]] = {}
    for product in products:
        sides = [side for side in product.args if isinstance(side, fx.Node)]
        chosen = [side for side in sides if _channel(side) is not None and _source(side) is _source(lone[0])]
        if len(sides) != 2 or len(chosen) != 1:
            return None
        factor = sides[1] if chosen[0] is sides[0] else sides[0]
        by_factor["background" if is_op(factor, _ONE_MINUS) else "foreground"] = (chosen[0], factor)
    if len(by_factor) != 2:
        return None
    (a, foreground), (b, background) = by_factor["foreground"], by_factor["background"]
    if background.args[0] is not foreground or argument(background, 1, "other") != 1:
        return None
    numbers = [_channel(part) for part in (a, b, lone[0])]
    return _Alpha(_source(a), foreground, *numbers, slices=(a, b, lone[0]))  # type: ignore[arg-type,misc]


def _terms(node: fx.Node) -> list[fx.Node]:
    """Operands of a sum of sums, or [node] when it is no sum."""
    if not is_op(node, ADD) or argument(node, 2, "alpha", 1) != 1:
        return [node]
    if not all(isinstance(side, fx.Node) for side in node.args[:2]):
        return [node]
    return [term for side in node.args[:2] for term in _terms(side)]  # type: ignore[arg-type]


def _channel(node: fx.Node) -> int | None:
    channels = channel_slice(node)
    return channels[0] if channels is not None and channels[1] - channels[0] == 1 else None


def _source(node: fx.Node) -> fx.Node:
    source: fx.Node = node.args[0]  # type: ignore[assignment]
    return source.args[0] if isinstance(source.meta["shape"][0], tuple) else source  # type: ignore[return-value]


def _obstacle(match: _Alpha) -> str | None:
    readers = {id(part) for part in match.slices}
    source, direct = match.source, True
    while True:
        for user in source.users:
            split = direct and isinstance(user.meta["shape"][0], tuple)
            users = list(user.users) if split else [user]
            if direct and any(id(reader) not in readers and reader.users for reader in users):
                return f"{describe(source)} is read elsewhere"
        if is_op(source, CONV):
            return None if Conv.of(source).groups == 1 else f"{describe(source)} is grouped"
        if not is_op(source, AVG_POOL) or only_user(source.args[0]) is None:  # type: ignore[arg-type]
            return f"{describe(source)} is neither a convolution nor a window average of one"
        source, direct = source.args[0], False  # type: ignore[assignment]


def _combine(graph_module: fx.GraphModule, node: fx.Node, match: _Alpha) -> None:
    pools: list[fx.Node] = []
    source = match.source
    while is_op(source, AVG_POOL):
        pools.insert(0, source)
        source = source.args[0]  # type: ignore[assignment]
    conv = Conv.of(source)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    mix = torch.zeros(2, weight.shape[0], dtype=torch.float64)  # rows: a - b, b + c
    for row, channel, sign in ((0, match.a, 1.0), (0, match.b, -1.0), (1, match.b, 1.0), (1, match.c, 1.0)):
        mix[row, channel] += sign  # the same channel may serve twice
    kernel = torch.einsum("om,mihw->oihw", mix, weight.double())
    folded = dataclasses.replace(
        conv,
        weight=add_constant(graph_module, kernel, f"{source.name}_feathering", source),
        bias=None
        if bias is None
        else add_constant(graph_module, mix @ bias.double(), f"{source.name}_feathering_bias", source),
    )
    combined = insert_op(graph_module, source, CONV, *folded.args_for(CONV), like=source)
    for pool in pools:
        combined = insert_op(graph_module, pool, AVG_POOL, combined, *pool.args[1:], like=pool)
    gain = insert_op(graph_module, node, SLICE, combined, 1, 0, 1, like=node)
    offset = insert_op(graph_module, node, SLICE, combined, 1, 1, 2, like=node)
    product = insert_op(graph_module, node, MUL, gain, match.foreground, like=node)
    replace(graph_module, node, insert_op(graph_module, node, ADD, product, offset, like=node))


EXPAND_FEATHERING = Rewrite(
    name="expand_feathering",
    why="the block becomes two convolutions, one product and one sum; three products fewer",
    apply=_apply,
)
