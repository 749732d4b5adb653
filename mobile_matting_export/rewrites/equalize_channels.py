"""Give all channels of a map about the same range, so that one scale for 8 bits serves them all.

int8 has one scale for a whole map: a channel that reaches 0.1 beside one that reaches 50 keeps one bit. A factor a
channel costs nothing: the convolution that writes the channel takes it up, the one that reads it takes it out again,
and whatever stands between hands it on (``graph/channel_scales.py``). The factor of a group of channels is the largest
that widens no map: min over the maps that hold it of (range of the map / range of the channel), to the power of
``strength``; ranges are magnitudes on calibration frames. What rounding activations gains by it, rounding weights loses
in part: a convolution's weights for a channel that was raised get smaller beside the others. Hence the strength.
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019), section 4.1,
which treats pairs of layers and weights' ranges; here groups of any shape and activations' ranges.
Exact: up to float32 rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import Role, is_map, role_of
from mobile_matting_export.graph.channel_scales import ChannelScales, group_channels
from mobile_matting_export.graph.ops import CONV, Conv
from mobile_matting_export.graph.surgery import add_constant, constant, set_args, shape, tidy
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

# a channel that hardly ever moves is not blown up to fill the range: its rare large values would be clipped
MOST = 64.0

Frames = Sequence[tuple[torch.Tensor, ...]]


def equalize_channels(frames: Frames, strength: float) -> Rewrite:
    """The rewrite for ranges that the graph has on ``frames``: positional inputs of the graph, one tuple a frame.

    ``strength`` is from 0, which leaves all as it is, to 1.
    """
    return Rewrite(
        "equalize_channels",
        "one scale of 8 bits serves all channels of a map",
        lambda graph_module: _apply(graph_module, frames, strength),
    )


def _apply(graph_module: fx.GraphModule, frames: Frames, strength: float) -> Outcome:
    scales = group_channels(graph_module)
    factors = _factors(scales, measure_channels(graph_module, frames), strength)
    changes = 0
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and role_of(graph_module, node) in (Role.DENSE, Role.DEPTHWISE, Role.GROUPED):
            conv = Conv.of(node)
            incoming, outgoing = factors[scales.groups[conv.input]], factors[scales.groups[node]]
            if bool((incoming != 1).any()) or bool((outgoing != 1).any()):
                _scale(graph_module, node, conv, incoming, outgoing)
                changes += 1
    tidy(graph_module)
    return Outcome(changes)


def measure_channels(graph_module: fx.GraphModule, frames: Frames) -> dict[fx.Node, torch.Tensor]:
    """Largest magnitude of every channel of every 4-D map over the frames, float64, one number a channel."""
    recorder = _Recorder(graph_module)
    with torch.no_grad():
        for frame in frames:
            recorder.run(*frame)
    return recorder.largest


class _Recorder(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.largest: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, node: fx.Node) -> object:
        result = super().run_node(node)
        if is_map(node) and node.op != "get_attr" and result.is_floating_point():
            seen = result.abs().amax((0, 2, 3)).double()
            before = self.largest.get(node)
            self.largest[node] = seen if before is None else torch.maximum(before, seen)
        return result


def _factors(scales: ChannelScales, largest: dict[fx.Node, torch.Tensor], strength: float) -> torch.Tensor:
    """One factor a group."""
    factors = torch.full(scales.held.shape, MOST, dtype=torch.float64)
    for node, seen in largest.items():
        groups = scales.groups[node]
        peak = float(seen.max())
        if peak == 0:  # the frames say nothing of this map
            continue
        room = peak / seen.clamp(min=1e-12)
        factors.scatter_reduce_(0, groups, room.clamp(max=MOST), "amin")
    factors = factors**strength
    factors[scales.held] = 1.0
    # powers of two: what is multiplied and divided comes back to the same float
    return torch.exp2(torch.floor(torch.log2(factors)))


def _scale(
    graph_module: fx.GraphModule, node: fx.Node, conv: Conv, incoming: torch.Tensor, outgoing: torch.Tensor
) -> None:
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    outputs, groups = shape(node)[1], conv.groups
    kernel = weight.double()
    if node.target is not CONV:  # inputs x outputs of a group
        kernel = kernel.reshape(groups, -1, *kernel.shape[1:]).transpose(1, 2)
    else:
        kernel = kernel.reshape(groups, outputs // groups, *kernel.shape[1:])
    kernel = kernel * outgoing.view(groups, -1, 1, 1, 1) / incoming.view(groups, 1, -1, 1, 1)
    if node.target is not CONV:
        kernel = kernel.transpose(1, 2)
    kernel = kernel.reshape(weight.shape)
    stored = add_constant(graph_module, kernel, f"{node.name}_weight", node)
    shifted = None if bias is None else add_constant(graph_module, bias.double() * outgoing, f"{node.name}_bias", node)
    set_args(graph_module, node, dataclasses.replace(conv, weight=stored, bias=shifted).args_for(node.target))
