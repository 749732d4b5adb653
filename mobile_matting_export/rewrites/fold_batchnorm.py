"""Fold batch norm into the linear operators before it.

y = (x - m) g / sqrt(v + eps) + beta = s x + t, with s = g / sqrt(v + eps), t = beta - s m.
A convolution takes it as W' = s W (per output channel), b' = s b + t. It also passes backwards
through operators that commute with a per-channel affine map: bilinear and nearest resizing
(weights sum to 1), unpadded average pooling, slices of channels, concatenation (s and t are split)
and addition (s goes to both sides, t to one). Computed in float64.
Finds: ``batch_norm`` in evaluation mode.
Refuses: a producer that is read elsewhere, or ends in something non-linear. What is left is for
``fold_batchnorm_forward``, then for ``spell_batchnorm_as_depthwise``.
Exact: up to float32 rounding (measured 1e-6 to 3e-5 on nine networks' alphas).
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import fx

from mobile_matting_export.graph.affine import Affine, affine_of_norm
from mobile_matting_export.graph.ops import (
    ADD,
    AVG_POOL,
    BATCH_NORM,
    BILINEAR,
    CAT,
    CONV,
    DECONV,
    NEAREST,
    Conv,
    argument,
    channel_slice,
    is_op,
    pair,
)
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, BATCH_NORM):
            continue
        if len(shape(node)) != 4:
            refusals.append(f"{describe(node)}: kept, it does not normalize a map")
            continue
        affine = affine_of_norm(graph_module, node)
        producer = node.args[0]
        obstacle = _obstacle(graph_module, producer)
        if obstacle is None:
            _absorb(graph_module, producer, affine)
            replace(graph_module, node, producer)
            changes += 1
        else:
            refusals.append(f"{describe(node)}: not folded into what is before it, {obstacle}")
    return Outcome(changes, tuple(refusals))


def _obstacle(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    """Why an affine map cannot be pushed into ``node``'s producers, or None when it can."""
    slices = channel_slice(node)
    if slices is not None and len(node.users) == 1:
        return _obstacle_behind_slice(graph_module, node)
    if len(node.users) != 1:
        return f"{describe(node)} is read {len(node.users)} times"
    if is_op(node, CONV, DECONV):
        return _computed(graph_module, node)
    if is_op(node, BILINEAR, NEAREST):
        return _obstacle(graph_module, node.args[0])
    if is_op(node, AVG_POOL):
        if pair(argument(node, 3, "padding", 0)) != (0, 0) or argument(node, 4, "ceil_mode", False):
            return f"{describe(node)} pads"
        if argument(node, 6, "divisor_override") is not None:
            return f"{describe(node)} divides by another number than its window's size"
        return _obstacle(graph_module, node.args[0])
    if is_op(node, CAT) and argument(node, 1, "dim", 0) == 1:
        parts = node.args[0]
        if len(set(parts)) != len(parts):
            return f"{describe(node)} takes one tensor twice"
        return next((o for o in (_obstacle(graph_module, part) for part in parts) if o), None)
    if is_op(node, ADD) and all(isinstance(side, fx.Node) and shape(side) == shape(node) for side in node.args[:2]):
        if node.args[0] is node.args[1] or argument(node, 2, "alpha", 1) != 1:
            return f"{describe(node)} adds a tensor to itself or scales it"
        return next((o for o in (_obstacle(graph_module, side) for side in node.args[:2]) if o), None)
    return f"{describe(node)} is not linear per channel"


def _conv_behind(node: fx.Node) -> fx.Node:
    """The tensor a channel slice takes its channels from, past a ``split``."""
    source = node.args[0]
    return source.args[0] if source.meta["shape"] and isinstance(source.meta["shape"][0], tuple) else source  # type: ignore[union-attr,return-value]


def _readers(source: fx.Node) -> list[fx.Node]:
    """Readers of a tensor, where a ``split`` counts as the parts taken from it."""
    readers: list[fx.Node] = []
    for user in source.users:
        multiple = user.op == "call_function" and user.meta["shape"] and isinstance(user.meta["shape"][0], tuple)
        readers.extend(user.users if multiple else [user])
    return readers


def _obstacle_behind_slice(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    """A convolution whose channels are shared out disjointly (half batch, half instance norm)."""
    source = _conv_behind(node)
    if not is_op(source, CONV):
        return f"{describe(source)} is sliced and not a convolution"
    ranges = [channel_slice(reader) for reader in _readers(source)]
    if any(r is None for r in ranges):
        return f"{describe(source)} is also read whole"
    ordered = sorted(r for r in ranges if r is not None)
    if any(left[1] > right[0] for left, right in itertools.pairwise(ordered)):
        return f"slices of {describe(source)} overlap"
    return _computed(graph_module, source)


def _computed(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    """Why the numbers of a convolution cannot be changed, or None when they are constants."""
    conv = Conv.of(node)
    known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
    return None if known else f"the weight or bias of {describe(node)} is computed"


def _absorb(graph_module: fx.GraphModule, node: fx.Node, affine: Affine) -> None:
    """Push the map into ``node``; ``_obstacle`` has said that it can be."""
    if is_op(node, CONV, DECONV):
        _scale_output(graph_module, node, affine)
    elif is_op(node, CAT):
        first = 0
        for part in node.args[0]:
            end = first + shape(part)[1]
            _absorb(graph_module, part, affine.part(first, end))
            first = end
    elif is_op(node, ADD):
        _absorb(graph_module, node.args[0], affine)
        _absorb(graph_module, node.args[1], affine.without_shift())
    elif (channels := channel_slice(node)) is not None:
        source = _conv_behind(node)
        width = shape(source)[1]
        scale, shift = torch.ones(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
        scale[slice(*channels)], shift[slice(*channels)] = affine.scale, affine.shift
        _scale_output(graph_module, source, Affine(scale, shift))
    else:
        _absorb(graph_module, node.args[0], affine)


def _scale_output(graph_module: fx.GraphModule, node: fx.Node, affine: Affine) -> None:
    conv = Conv.of(node)
    weight = constant(graph_module, conv.weight)
    bias = constant(graph_module, conv.bias)
    assert weight is not None
    new_bias = affine.shift if bias is None else affine.scale * bias.double() + affine.shift
    if node.target is CONV:  # O x I/g x kh x kw
        new_weight = weight.double() * affine.scale.view(-1, 1, 1, 1)
    else:  # I x O/g x kh x kw
        per_group = affine.scale.view(conv.groups, 1, -1, 1, 1)
        grouped = weight.double().view(conv.groups, -1, *weight.shape[1:])
        new_weight = (grouped * per_group).view_as(weight)
    folded = dataclasses.replace(
        conv,
        weight=add_constant(graph_module, new_weight, f"{node.name}_folded_weight", node),
        bias=add_constant(graph_module, new_bias, f"{node.name}_folded_bias", node),
    )
    set_args(graph_module, node, folded.args_for(node.target))


FOLD_BATCHNORM = Rewrite(
    name="fold_batchnorm",
    why="a norm costs nothing in the weights of the convolution before it",
    apply=_apply,
    # every weight is rounded anew, and deep networks amplify it: 3.3e-4 on portraitnet_video with random statistics
    max_error=1e-3,
)
