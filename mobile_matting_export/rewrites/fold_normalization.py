"""The normalization of a picture inside the network goes into the convolutions that read it.

A chain of sums, differences, products and quotients with constants, and of reorderings of channels, behind an
input x is y = s P x + t, P a permutation (BGR), s and t a number per channel. A convolution W over y is the
convolution W' over x with W'[:, P c] = s_c W[:, c]; the rest, sum_c W[:, c] t_c, goes into its bias.
The scale and the permutation also pass resizes, pools, crops, zero pads and concatenations on their way to
convolutions; the shift passes only what hands on a constant unchanged, and no convolution or pool that pads:
the padding is 0 after the normalization, so that it would have to be the mean before it. (Padding with the mean
is no way out: TensorFlow's GPU delegate merges such a pad into the convolution as zeros, XNNPACK has no PADV2.)
Finds: such a chain directly behind an input, whether ``--input pixels`` or the network's own code put it there.
What it makes, the first that is possible: nothing at all; one subtraction of the mean, y = s P (x - m), exact at
borders; one 1x1 convolution, where something else needs y itself (x * x in 0..255 would overflow fp16).
Refuses, with the reader that stands in the way: what is left of a chain is reported under ``-v``.
Exact: yes (float32 rounding).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mobile_matting_export.graph.affine import affine_of_norm
from mobile_matting_export.graph.channel_roles import MAX_POOL, PADS
from mobile_matting_export.graph.ops import (
    ADD,
    AVG_POOL,
    BATCH_NORM,
    BILINEAR,
    CAT,
    CONV,
    DECONV,
    MUL,
    NEAREST,
    SLICE,
    SUB,
    Conv,
    argument,
    is_op,
    only_user,
    pair,
)
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten


@dataclass(frozen=True)
class _Affine:
    """y[c] = scale[c] * x[order[c]] + shift[c], float64; ``order`` is a permutation."""

    order: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    @classmethod
    def identity(cls, channels: int) -> _Affine:
        ones = torch.ones(channels, dtype=torch.float64)
        return cls(torch.arange(channels), ones, torch.zeros_like(ones))

    @classmethod
    def beside(cls, parts: list[_Affine]) -> _Affine:
        """Of a concatenation of maps."""
        widths = [part.order.numel() for part in parts]
        order = torch.cat([part.order + sum(widths[:i]) for i, part in enumerate(parts)])
        return cls(order, torch.cat([part.scale for part in parts]), torch.cat([part.shift for part in parts]))

    @property
    def reorders(self) -> bool:
        return not torch.equal(self.order, torch.arange(self.order.numel()))

    @property
    def shifts(self) -> bool:
        return bool(self.shift.any())

    @property
    def only_shifts(self) -> bool:
        return not self.reorders and bool((self.scale == 1).all())

    def linear(self) -> _Affine:
        return dataclasses.replace(self, shift=torch.zeros_like(self.shift))

    def mean(self) -> torch.Tensor:
        """M in y = scale * (x - m)[order], by the channels of x."""
        mean = torch.empty_like(self.shift)
        mean[self.order] = -self.shift / self.scale
        return mean


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for image in [node for node in graph_module.graph.nodes if node.op == "placeholder" and len(shape(node)) == 4]:
        for first in list(image.users):
            chain, affine = _chain(graph_module, image, first)
            if not chain:
                continue
            changed, refusal = _settle(graph_module, image, chain, affine)
            changes += changed
            refusals += [refusal] if refusal else []
    return Outcome(changes, tuple(refusals))


def _chain(graph_module: fx.GraphModule, image: fx.Node, first: fx.Node) -> tuple[list[fx.Node], _Affine]:
    """The longest row of affine operators that starts with ``first``, and what it does to ``image``."""
    chain: list[fx.Node] = []
    affine, last, following = _Affine.identity(shape(image)[1]), image, first
    while following is not None:
        step = _step(graph_module, following, last)
        if step is None:
            break
        affine = _Affine(
            affine.order[step.order],
            step.scale * affine.scale[step.order],
            step.scale * affine.shift[step.order] + step.shift,
        )
        chain.append(following)
        last, following = following, only_user(following)
    return chain, affine


def _step(graph_module: fx.GraphModule, node: fx.Node, source: fx.Node) -> _Affine | None:
    """What one operator does per channel to ``source``, or None when it does anything else."""
    channels = shape(source)[1]
    same = _Affine.identity(channels)
    if is_op(node, ADD, SUB, MUL, aten.div.Tensor) and shape(node) == shape(source) and len(node.args) == 2:
        left, right = node.args
        if left is not source and is_op(node, ADD, MUL):
            left, right = right, left
        numbers = _per_channel(graph_module, right, channels)
        if left is not source or numbers is None:
            return None
        if is_op(node, ADD, SUB):
            return dataclasses.replace(same, shift=numbers if is_op(node, ADD) else -numbers)
        return dataclasses.replace(same, scale=numbers if is_op(node, MUL) else 1 / numbers)
    if is_op(node, aten.flip.default) and [axis % 4 for axis in node.args[1]] == [1]:
        return dataclasses.replace(same, order=same.order.flip(0))
    if is_op(node, aten.index.Tensor) and len(node.args[1]) == 2 and node.args[1][0] is None:
        order = constant(graph_module, node.args[1][1])
        if order is not None and torch.equal(order.sort().values, same.order):
            return dataclasses.replace(same, order=order)
    if is_op(node, BATCH_NORM):
        norm = affine_of_norm(graph_module, node)
        return dataclasses.replace(same, scale=norm.scale, shift=norm.shift)
    if is_op(node, CONV):  # of a leftover batch norm, or of an earlier run
        conv = Conv.of(node)
        weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
        pointwise = shape(conv.weight)[1:] == (1, 1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)
        if pointwise and conv.groups == channels == shape(node)[1] and weight is not None and bias is not None:
            return dataclasses.replace(same, scale=weight.double().view(-1), shift=bias.double())
    return None


def _per_channel(graph_module: fx.GraphModule, value: Any, channels: int) -> torch.Tensor | None:
    """A constant operand as one number per channel, or None when it is no such thing."""
    if isinstance(value, (int, float)):
        return torch.full((channels,), float(value), dtype=torch.float64)
    numbers = constant(graph_module, value)
    if numbers is None or not numbers.is_floating_point():
        return None
    if numbers.numel() == 1:
        return numbers.double().view(1).expand(channels)
    per_channel = numbers.dim() in (3, 4) and numbers.shape[-3:] == (channels, 1, 1) and numbers.numel() == channels
    return numbers.double().reshape(channels) if per_channel else None


def _settle(
    graph_module: fx.GraphModule, image: fx.Node, chain: list[fx.Node], affine: _Affine
) -> tuple[int, str | None]:
    """Replace the chain by the least that is possible: changes, and why it was not nothing."""
    last, linear = chain[-1], affine.linear()
    if not bool((affine.scale != 0).all()):
        return 0, f"{describe(chain[0])}: kept, it multiplies a channel by 0"
    obstacle = _obstacle(graph_module, last, affine)
    if obstacle is None:
        _absorb(graph_module, last, affine)
        replace(graph_module, last, image)
        return 1, None
    deeper = _obstacle(graph_module, last, linear)
    if deeper is None:
        refusal = f"{describe(chain[0])}: the mean stays a subtraction, {obstacle}"
        if len(chain) == 1 and affine.only_shifts:
            return 0, refusal
        _absorb(graph_module, last, linear)
        mean = add_constant(graph_module, affine.mean().view(1, -1, 1, 1), "image_mean", chain[0])
        replace(graph_module, last, insert_op(graph_module, chain[0], SUB, image, mean, like=chain[0]))
        return 1, refusal
    refusal = f"{describe(chain[0])}: the normalization stays one operator, {deeper}"
    if len(chain) == 1 and not affine.reorders:
        return 0, refusal
    replace(graph_module, last, _spell_as_conv(graph_module, image, chain[0], affine))
    return 1, refusal


def _obstacle(graph_module: fx.GraphModule, node: fx.Node, affine: _Affine) -> str | None:
    """Why some reader of ``node`` cannot do without the map before it, or None when all can."""
    found = (_obstacle_at(graph_module, node, user, affine) for user in node.users)
    return next((sentence for sentence in found if sentence), None)


def _obstacle_at(graph_module: fx.GraphModule, node: fx.Node, user: fx.Node, affine: _Affine) -> str | None:
    if is_op(user, CONV, DECONV):
        conv = Conv.of(user)
        known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
        if not known or conv.input is not node:
            return f"{describe(user)} computes with other numbers than constants"
        if affine.reorders and conv.groups != 1:
            return f"{describe(user)} has groups of channels"
        if affine.shifts and (is_op(user, DECONV) or conv.padding != (0, 0)):
            return f"{describe(user)} pads with zeros, which are not the mean"
        return None
    if not _passes(user, node, affine):
        return f"{describe(user)} needs the normalized picture"
    return _obstacle(graph_module, user, _behind(user, node, affine))


def _passes(user: fx.Node, node: fx.Node, affine: _Affine) -> bool:
    """Whether ``user`` of the map gives the map of ``user``."""
    if is_op(user, BILINEAR, NEAREST):
        return True
    if is_op(user, AVG_POOL):
        plain = pair(argument(user, 3, "padding", 0)) == (0, 0) and not argument(user, 4, "ceil_mode", False)
        return not affine.shifts or (plain and argument(user, 6, "divisor_override") is None)
    if is_op(user, MAX_POOL):
        return bool((affine.scale > 0).all())
    if is_op(user, *PADS):
        named = user.target is PADS[0]
        zeros = not argument(user, 3 if named else 2, "value", 0) and not any(user.args[1][4:])  # type: ignore[index]
        repeats = named and argument(user, 2, "mode", "constant") != "constant"
        return not any(user.args[1][4:]) and (repeats or (zeros and not affine.shifts))  # type: ignore[index]
    if is_op(user, CAT):
        return argument(user, 1, "dim", 0) in (1, -3)
    return is_op(user, SLICE) and argument(user, 1, "dim", 0) % 4 in (2, 3)


def _behind(user: fx.Node, node: fx.Node, affine: _Affine) -> _Affine:
    """The map as it is behind ``user``: a concatenation has channels of others, too."""
    if not is_op(user, CAT):
        return affine
    parts: list[fx.Node] = list(user.args[0])  # type: ignore[arg-type]
    return _Affine.beside([affine if part is node else _Affine.identity(shape(part)[1]) for part in parts])


def _absorb(graph_module: fx.GraphModule, node: fx.Node, affine: _Affine) -> None:
    """Fold the map into the convolutions that ``node`` ends in; ``_obstacle`` has said that all take it."""
    for user in list(node.users):
        if is_op(user, CONV, DECONV):
            _fold(graph_module, user, affine)
        else:
            _absorb(graph_module, user, _behind(user, node, affine))


def _fold(graph_module: fx.GraphModule, node: fx.Node, affine: _Affine) -> None:
    conv = Conv.of(node)
    stored, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert stored is not None
    weight = stored.double()
    scaled = torch.empty_like(weight)
    if node.target is DECONV:  # I x O/g x kh x kw
        scaled[affine.order] = weight * affine.scale.view(-1, 1, 1, 1)
    elif conv.groups == 1:  # O x I x kh x kw
        scaled[:, affine.order] = weight * affine.scale.view(1, -1, 1, 1)
    else:
        per_group = affine.scale.view(conv.groups, 1, -1).expand(-1, weight.shape[0] // conv.groups, -1)
        scaled = weight * per_group.reshape(*weight.shape[:2], 1, 1)
    new = dataclasses.replace(conv, weight=add_constant(graph_module, scaled, f"{node.name}_weight_of_pixels", node))
    if affine.shifts:
        per_group = affine.shift.view(conv.groups, 1, -1).expand(-1, weight.shape[0] // conv.groups, -1)
        total = (weight.sum((2, 3)) * per_group.reshape(weight.shape[:2])).sum(1)
        total = total if bias is None else total + bias.double()
        new = dataclasses.replace(new, bias=add_constant(graph_module, total, f"{node.name}_bias_of_pixels", node))
    set_args(graph_module, node, new.args_for(node.target))


def _spell_as_conv(graph_module: fx.GraphModule, image: fx.Node, first: fx.Node, affine: _Affine) -> fx.Node:
    """Y by one 1x1 convolution: depthwise, or dense where channels change places."""
    channels = affine.order.numel()
    groups = 1 if affine.reorders else channels
    weight = torch.zeros(channels, channels // groups, 1, 1, dtype=torch.float64)
    weight[torch.arange(channels), affine.order if affine.reorders else 0, 0, 0] = affine.scale
    kernel = add_constant(graph_module, weight, "image_scale", first)
    bias = add_constant(graph_module, affine.shift, "image_shift", first)
    return insert_op(graph_module, first, CONV, image, kernel, bias, [1, 1], [0, 0], [1, 1], groups, like=first)


FOLD_NORMALIZATION = Rewrite(
    name="fold_normalization",
    why="an application hands over the pixels as they are, and the phone computes nothing for it",
    apply=_apply,
)
