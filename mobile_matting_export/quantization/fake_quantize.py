"""Runs a float graph as its int8 file computes, so that gradients flow: rounded weights, rounded maps.

Weights are symmetric, one scale an output channel. A map is rounded with one range when it is written; of ncnn when a
convolution reads it, and whatever else reads it gets it as it was. Sums and biases are exact: runtimes keep them in 32
bits. Rounding hands gradients on as they are, and none where a value is clipped (Jacob et al., Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import is_map
from mobile_matting_export.graph.ops import ADD, CONV, DECONV, MUL, SUB, argument, is_op, only_user
from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE, SPREAD_COLUMNS
from mobile_matting_export.quantization.ranges import Range

aten = torch.ops.aten

Arithmetic = Literal["operations", "convolutions", "dynamic"]
"""What a runtime computes in 8 bits: all operations, with zero points (TFLite); convolutions alone, which round
symmetrically what they read (ncnn); convolutions alone, with zero points, what they read by the range that it has on
that frame (TFLite's dynamic range)."""

LEVELS = 127
"""The largest int8 weight; -128 is not used."""

_FUSED = (aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default)
_FUSING = (CONV, DECONV, ADD, SUB, MUL)
# what they write is on the grid of what they read
_MOVES = (
    *(aten.slice.Tensor, aten.pad.default, aten.constant_pad_nd.default, aten.max_pool2d.default),
    *(aten.view.default, aten.reshape.default, aten.permute.default, aten.clone.default),
    *(aten.upsample_nearest2d.vec, CROP, DEPTH_TO_SPACE, SPREAD_COLUMNS),
)


def rounded_maps(graph_module: fx.GraphModule, arithmetic: Arithmetic) -> tuple[fx.Node, ...]:
    """Nodes whose result is rounded to 8 bits, when written or when a convolution reads it, in order of execution.

    What makes the matte out of the last weights' maps stays float, as in ``formats/tflite/list_int8_layers.py``.
    """
    if arithmetic != "operations":
        read = {node.args[0] for node in graph_module.graph.nodes if has_int8_weights(node, arithmetic)}
        return tuple(node for node in graph_module.graph.nodes if node in read)
    tail = _tail(graph_module)
    return tuple(
        node
        for node in graph_module.graph.nodes
        if node.op in ("placeholder", "call_function")
        and is_map(node)
        and node not in tail
        and not is_op(node, *_MOVES)
        and getattr(node.target, "__name__", "") != "getitem"
        and not (is_op(node, *_FUSING) and is_op(only_user(node), *_FUSED))
    )


def has_int8_weights(node: fx.Node, arithmetic: Arithmetic) -> bool:
    """Whether it is a convolution that the runtime computes in 8 bits: of ncnn's those without groups are.

    Depthwise ones always stay float there, and transposed ones, see ``formats/ncnn/list_int8_layers.py``.
    """
    if arithmetic == "convolutions":
        return is_op(node, CONV) and argument(node, 6, "groups", 1) == 1
    return is_op(node, CONV, DECONV)


def _tail(graph_module: fx.GraphModule) -> set[fx.Node]:
    wanted: set[fx.Node] = set()
    tail: set[fx.Node] = set()
    for node in reversed(graph_module.graph.nodes):
        if node.op == "output":
            wanted.update(node.all_input_nodes)
        elif node in wanted and node.op == "call_function" and not _has_weights(node):
            tail.add(node)
            wanted.update(node.all_input_nodes)
    return tail


def _has_weights(node: fx.Node) -> bool:
    """Whether it is a convolution, or the activation that a convolution takes in."""
    if is_op(node, *_FUSED):
        source = node.args[0]
        return is_op(source, CONV, DECONV) and only_user(source) is node  # type: ignore[arg-type]
    return is_op(node, CONV, DECONV)


def round_map(values: torch.Tensor, low: float, high: float, arithmetic: Arithmetic) -> torch.Tensor:
    """``values`` as 8 bits for ``low`` to ``high`` hold them."""
    if low == high:
        return values
    if arithmetic == "convolutions":
        return torch.fake_quantize_per_tensor_affine(values, max(-low, high) / LEVELS, 0, -LEVELS, LEVELS)
    scale = (high - low) / 255
    zero = min(max(round(-128 - low / scale), -128), 127)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, -128, 127)


def weight_scales(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """What one step of 8 bits is worth in each output channel, float32; 1 for a channel that is all zero."""
    other = [number for number in range(weight.dim()) if number != axis]
    peaks = weight.detach().abs().amax(other)
    return torch.where(peaks > 0, peaks / LEVELS, torch.ones_like(peaks))


def round_weight(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """The weight as int8 holds it. Rounding it again changes nothing but the last bit."""
    scales = weight_scales(weight, axis)
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, axis, -LEVELS, LEVELS)


def output_axis(node: fx.Node) -> int | None:
    """The axis of a convolution's weights that its outputs are along; None where several lie behind one another."""
    if is_op(node, CONV):
        return 0
    return 1 if is_op(node, DECONV) and argument(node, 6, "groups", 1) == 1 else None


class FakeInt8(fx.Interpreter):
    """The graph in simulated int8.

    Args:
        graph_module: a rewritten graph, unchanged.
        ranges: node name -> range of its result, for the maps that are rounded; of dynamic arithmetic the names alone.
        arithmetic: of the runtime.
        tensors: stored tensor's name -> what stands for it, rounded or not.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        ranges: Mapping[str, Range],
        arithmetic: Arithmetic,
        tensors: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__(graph_module)
        self.ranges, self.arithmetic, self.tensors = ranges, arithmetic, tensors

    def run_node(self, node: fx.Node) -> Any:
        """The node's result: rounded, or of rounded values, where the runtime has it so."""
        if node.op == "get_attr" and str(node.target) in self.tensors:
            return self.tensors[str(node.target)]
        if self.arithmetic != "convolutions":
            return self._round(node, super().run_node(node))
        if not has_int8_weights(node, self.arithmetic):
            return super().run_node(node)
        (values, *others), options = self.fetch_args_kwargs_from_env(node)
        return self.call_function(node.target, (self._round(node.all_input_nodes[0], values), *others), options)

    def _round(self, node: fx.Node, values: Any) -> Any:
        """The result of ``node`` as 8 bits hold it, where it is one of the maps."""
        if node.name not in self.ranges:
            return values
        chosen = _own_range(values) if self.arithmetic == "dynamic" else self.ranges[node.name]
        return round_map(values, chosen.low, chosen.high, self.arithmetic)


def _own_range(values: torch.Tensor) -> Range:
    return Range(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
