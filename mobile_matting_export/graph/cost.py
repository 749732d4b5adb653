"""Counted cost of a graph: parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from mobile_matting_export.graph.ops import CONV, DECONV, is_op
from mobile_matting_export.graph.surgery import shape

_LINEAR = torch.ops.aten.linear.default


def count_parameters(graph_module: fx.GraphModule) -> int:
    """Numbers stored in the graph's tensors (weights, biases, batch-norm statistics)."""
    return sum(tensor.numel() for tensor in graph_module.buffers())


def count_macs(graph_module: fx.GraphModule) -> int:
    """Multiply-accumulates of convolutions, transposed convolutions and linear layers, batch 1."""
    return sum(_macs(node) for node in graph_module.graph.nodes)


def _macs(node: fx.Node) -> int:
    if is_op(node, CONV):  # every output pixel meets the whole kernel once
        pixels = math.prod(shape(node)[2:])
    elif is_op(node, DECONV):  # every input pixel does
        pixels = math.prod(shape(node.args[0])[2:])  # type: ignore[arg-type]
    elif is_op(node, _LINEAR):
        pixels = math.prod(shape(node)[:-1])
    else:
        return 0
    return pixels * math.prod(shape(node.args[1]))  # type: ignore[arg-type]


def count_module_cost(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and multiply-accumulates of an eager module, without computing anything.

    Args:
        build: makes the module; it is built and run on the meta device.
        shape: shape of its one input.
    """
    with torch.device("meta"), torch.no_grad():
        module = build().eval()
        with FlopCounterMode(display=False) as counter:
            module(torch.empty(shape))
    return sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops() // 2
