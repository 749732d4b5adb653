"""When a transposed convolution is a plain one whose results are interleaved: one phase for each place of a block."""

from __future__ import annotations

from torch import fx

from mobile_matting_export.graph.ops import Conv
from mobile_matting_export.graph.surgery import constant


def why_no_phases(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    """Why the transposed convolution ``node`` is none, as the end of a sentence; None where it is."""
    conv = Conv.of(node)
    if constant(graph_module, conv.weight) is None:
        return "its weight or bias is computed"
    if conv.bias is not None and constant(graph_module, conv.bias) is None:
        return "its weight or bias is computed"
    if conv.groups != 1:
        return f"it has {conv.groups} groups"
    if conv.dilation != (1, 1):
        return f"its dilation is {conv.dilation}"
    if conv.stride[1] != conv.stride[0] or conv.stride[0] < 2:
        return f"its stride is {conv.stride}"
    return None
