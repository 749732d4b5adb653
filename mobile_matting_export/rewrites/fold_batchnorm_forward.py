"""Fold batch norm into the convolutions behind it, where it could not be folded into what is before.

conv(s x + t, W) + b = conv(x, W s) + (b + sum(W t)), the sum over the inputs and the kernel, s on the columns of
W: true at every pixel whose window lies inside the map, so the convolution must not pad, or t must be 0. The map
also passes forward through bilinear and nearest resizing (weights sum to 1), unpadded average pooling, and
concatenation, where it takes its columns of W.
Finds: ``batch_norm`` of a map, in evaluation mode, all of whose readers end in such convolutions.
Refuses: any other reader (each would need the normalized map itself), computed weights.
Exact: up to float32 rounding. Computed in float64.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import fx

from mobile_matting_export.graph.affine import Affine, affine_of_norm
from mobile_matting_export.graph.ops import (
    AVG_POOL,
    BATCH_NORM,
    BILINEAR,
    CAT,
    CONV,
    NEAREST,
    Conv,
    argument,
    is_op,
    pair,
)
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, replace, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


@dataclasses.dataclass(frozen=True)
class _Reader:
    """A convolution, and which of its input channels the map takes, from ``first`` on."""

    conv: fx.Node
    first: int


class _KeptError(Exception):
    """Why a norm stays."""


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, BATCH_NORM) or len(shape(node)) != 4:
            continue
        affine = affine_of_norm(graph_module, node)
        try:
            readers = _readers(graph_module, node, 0, bool(affine.shift.any()))
        except _KeptError as reason:
            refusals.append(f"{describe(node)}: not folded forward, {reason}")
            continue
        for reader in readers:
            _absorb(graph_module, reader, affine)
        replace(graph_module, node, node.args[0])
        changes += 1
    return Outcome(changes, tuple(refusals))


def _readers(graph_module: fx.GraphModule, node: fx.Node, first: int, shifts: bool) -> list[_Reader]:
    """All convolutions that read ``node``, whose channels in question start at ``first``."""
    found: list[_Reader] = []
    for user in node.users:
        if is_op(user, CONV):
            _require_foldable(graph_module, user, node, shifts)
            found.append(_Reader(user, first))
        elif is_op(user, BILINEAR, NEAREST) or (is_op(user, AVG_POOL) and _averages(user)):
            found.extend(_readers(graph_module, user, first, shifts))
        elif is_op(user, CAT) and argument(user, 1, "dim", 0) in (1, -3):
            start = 0
            for part in user.args[0]:  # type: ignore[union-attr]
                if part is node:
                    found.extend(_readers(graph_module, user, start + first, shifts))
                start += shape(part)[1]  # type: ignore[arg-type]
        else:
            name = "the output of the network" if user.op == "output" else describe(user)
            raise _KeptError(f"{name} reads it")
    return found


def _require_foldable(graph_module: fx.GraphModule, user: fx.Node, source: fx.Node, shifts: bool) -> None:
    conv = Conv.of(user)
    known = all(part is None or constant(graph_module, part) is not None for part in (conv.weight, conv.bias))
    if not known or conv.input is not source:
        raise _KeptError(f"the weight or bias of {describe(user)} is computed")
    if shifts and conv.padding != (0, 0):
        raise _KeptError(f"{describe(user)} pads with zeros, which are not zeros before the norm")


def _averages(node: fx.Node) -> bool:
    """Whether a pool's weights sum to 1 everywhere."""
    unpadded = pair(argument(node, 3, "padding", 0)) == (0, 0) and not argument(node, 4, "ceil_mode", False)
    return unpadded and argument(node, 6, "divisor_override") is None


def _absorb(graph_module: fx.GraphModule, reader: _Reader, affine: Affine) -> None:
    node, conv = reader.conv, Conv.of(reader.conv)
    inputs = shape(conv.input)[1]
    scale, shift = torch.ones(inputs, dtype=torch.float64), torch.zeros(inputs, dtype=torch.float64)
    taken = slice(reader.first, reader.first + affine.scale.numel())
    scale[taken], shift[taken] = affine.scale, affine.shift
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    grouped = weight.double().view(conv.groups, -1, *weight.shape[1:])  # g x O/g x I/g x kh x kw
    scaled = (grouped * scale.view(conv.groups, 1, -1, 1, 1)).view_as(weight)
    gained = (grouped.sum((3, 4)) * shift.view(conv.groups, 1, -1)).sum(2).flatten()
    changed = dataclasses.replace(conv, weight=add_constant(graph_module, scaled, f"{node.name}_folded_weight", node))
    if gained.any():
        total = gained if bias is None else bias.double() + gained
        changed = dataclasses.replace(changed, bias=add_constant(graph_module, total, f"{node.name}_folded_bias", node))
    set_args(graph_module, node, changed.args_for(CONV))


FOLD_BATCHNORM_FORWARD = Rewrite(
    name="fold_batchnorm_forward",
    why="a norm behind a join or an activation costs nothing in the convolution that reads it",
    apply=_apply,
    # as fold_batchnorm: weights are rounded anew, 7e-5 on the trained ExtremeC3 fed with noise
    max_error=1e-3,
)
