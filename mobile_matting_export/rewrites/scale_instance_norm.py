"""Scale what an instance norm reads, so that its eps is a normal number in half precision.

(x - m) * rsqrt(v + eps) does not change when x becomes s x and eps becomes s^2 eps, nor when a number per
channel is added to x. With a power of two the convolution before it takes s without any rounding, and
loses the bias of the normed channels, which the norm would take away again.
eps = 1e-5 lies below 2^-14, the smallest normal float16: a GPU that flushes such numbers to zero computes
rsqrt(0) = infinity and 0 * infinity = NaN wherever a channel is flat. With s = 4 it is 1.6e-4. The squares
of x - m must neither vanish nor pass 65504; s brings the deviation near 4 for an input of unit size.
Finds: ``instance_norm`` behind a convolution, or behind a range of one's channels.
Refuses: a convolution that others read, and weights so large that squares of the scaled map may overflow.
Exact: yes. s rounds nothing; without a bias far above the deviation float32 itself is better: on modnet as
initialised the alpha's error against float64 falls from 2.1e-4 to 1.3e-6, so that much is what changes.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import range_source
from mobile_matting_export.graph.ops import CONV, INSTANCE_NORM, Conv, channel_slice, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

_SMALLEST_NORMAL = 2.0**-14
_DEVIATION = 4.5
"""Wanted of the scaled map, were its input white noise of unit size; the nearest power of two is taken. Measured
on modnet at 512x512: weights as initialised (norm 0.6) need s = 8, those of norm 1.4 overflow with it."""
_LARGEST_DEVIATION = 32.0
"""Eight such deviations squared are 65536."""


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, INSTANCE_NORM) or node.args[3] is not None or len(shape(node)) != 4:
            continue
        eps = float(node.args[7])
        cut = channel_slice(node.args[0])
        channels = slice(*(cut or (0, shape(node)[1])))
        source = range_source(node.args[0]) if cut else node.args[0]
        obstacle = _obstacle(graph_module, node, source, channels)
        if obstacle is None:
            norm = float(_norms(graph_module, source, channels).max())
            scale = _scale_for(norm, eps)
            if norm * scale > _LARGEST_DEVIATION:
                obstacle = f"the weights of {describe(source)} are so large that scaled squares may pass 65504"
            elif scale != 1 or _has_bias(graph_module, source, channels):
                _scale(graph_module, source, channels, scale)
                set_args(graph_module, node, (*node.args[:7], eps * scale**2, *node.args[8:]))
                changes += 1
        if obstacle is not None:
            refusals.append(f"{describe(node)}: eps stays {eps:g}, {obstacle}")
    return Outcome(changes, tuple(refusals))


def _scale_for(norm: float, eps: float) -> float:
    """The power of two for weights of this largest norm: at least what makes eps a normal half float."""
    if norm == 0 or eps <= 0:
        return 1.0
    wanted = round(math.log2(_DEVIATION / norm))
    needed = math.ceil(math.log2(_SMALLEST_NORMAL / eps) / 2)
    return 2.0 ** max(wanted, needed)


def _norms(graph_module: fx.GraphModule, source: fx.Node, channels: slice) -> torch.Tensor:
    """Euclidean length of the weights of each output channel."""
    weight = constant(graph_module, Conv.of(source).weight)
    assert weight is not None  # _obstacle has looked
    return weight[channels].flatten(1).norm(dim=1)


def _obstacle(graph_module: fx.GraphModule, node: fx.Node, source: fx.Node, channels: slice) -> str | None:
    """Why the convolution cannot take a scale, or None when it can."""
    if not is_op(source, CONV):
        return f"{describe(source)} before it is no convolution"
    conv = Conv.of(source)
    weight = constant(graph_module, conv.weight)
    if weight is None or (conv.bias is not None and constant(graph_module, conv.bias) is None):
        return f"the weight or bias of {describe(source)} is computed"
    own = node.args[0]
    others = [reader for reader in _readers(source) if reader not in (own, node)]
    ranges = [channel_slice(reader) for reader in others]
    if any(r is None or (r[0] < channels.stop and channels.start < r[1]) for r in ranges):
        return f"{describe(source)} is read elsewhere too"
    if own is not source and len(own.users) != 1:  # type: ignore[union-attr]
        return f"{describe(source)} is read elsewhere too"
    return None


def _readers(source: fx.Node) -> list[fx.Node]:
    """Readers of a map, where a ``split`` counts as the parts taken from it."""
    readers: list[fx.Node] = []
    for user in source.users:
        multiple = user.op == "call_function" and user.meta["shape"] and isinstance(user.meta["shape"][0], tuple)
        readers.extend(user.users if multiple else [user])
    return readers


def _has_bias(graph_module: fx.GraphModule, source: fx.Node, channels: slice) -> bool:
    bias = constant(graph_module, Conv.of(source).bias)
    return bias is not None and bool(bias[channels].any())


def _scale(graph_module: fx.GraphModule, source: fx.Node, channels: slice, scale: float) -> None:
    conv = Conv.of(source)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    weight = weight.clone()
    weight[channels] *= scale
    scaled = dataclasses.replace(conv, weight=add_constant(graph_module, weight, f"{source.name}_scaled", source))
    if bias is not None:
        bias = bias.clone()
        bias[channels] = 0
        kept = add_constant(graph_module, bias, f"{source.name}_kept_bias", source) if bias.any() else None
        scaled = dataclasses.replace(scaled, bias=kept)
    set_args(graph_module, source, scaled.args_for(CONV))


SCALE_INSTANCE_NORM = Rewrite(
    name="scale_instance_norm",
    why="eps survives half precision, so that a flat channel gives zero and not NaN",
    apply=_apply,
)
