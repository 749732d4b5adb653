"""Graphs that pnnx converts without complaint into a wrong network, refused before it sees them.

Each was measured: the converter ends with status 0 and the file's result is off. An operator that
pnnx does not know at all is not in here; it leaves a trace in the file, which ``lower.py`` finds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.graph.ops import argument
from mobile_matting_export.graph.provenance import module_path

if TYPE_CHECKING:
    from torch import fx

# pnnx learns from these which axis is the batch; without any of them softmax, chunk, mean and flip
# act on the wrong axis of the file, whose tensors have no batch axis
_PINS_BATCH_AXIS = re.compile(
    r"^(conv\w*|\w+_pool2d|upsample_\w+|\w*batch_norm\w*|_native_batch_norm\w*|instance_norm|group_norm)$"
)


def refuse_silent_errors(graph: ExportGraph) -> None:
    """Raise ``ConversionError`` for a graph that pnnx is known to convert wrongly without a word."""
    nodes = list(graph.module.graph.nodes)
    for node in nodes:
        if node.op == "placeholder":
            _check_input(node)
    operators = [node for node in nodes if node.op == "call_function"]
    if not any(_PINS_BATCH_AXIS.match(_operator(node)) for node in operators):
        raise ConversionError(
            "cannot convert this graph to ncnn: it has no convolution, pooling, resize or normalization, "
            "and without one pnnx mistakes channels for rows; convert the whole network, not a part of it"
        )
    for node in operators:
        if _operator(node) == "avg_pool2d":
            _check_average_pool(node)
        if _operator(node) in ("layer_norm", "native_layer_norm"):
            _check_layer_norm(node)


def _check_input(node: fx.Node) -> None:
    if not node.users:
        # pnnx then numbers the inputs that are left differently: the second becomes in0
        raise ConversionError(
            f"input {str(node.target)!r} is not used by the network, and pnnx would mix up the others; drop it"
        )


def _check_average_pool(node: fx.Node) -> None:
    ceil_mode = argument(node, 4, "ceil_mode", False)
    count_include_pad = argument(node, 5, "count_include_pad", True)
    if ceil_mode and count_include_pad:
        raise ConversionError(
            f"average pooling {module_path(node)!r} has ceil_mode=True and count_include_pad=True, which ncnn "
            "computes differently; use ceil_mode=False (equal where windows fit) or count_include_pad=False"
        )
    if argument(node, 6, "divisor_override") is not None:
        raise ConversionError(
            f"average pooling {module_path(node)!r} has divisor_override, which ncnn lacks; scale the result instead"
        )


def _check_layer_norm(node: fx.Node) -> None:
    shape = argument(node, 1, "normalized_shape", ())
    if len(shape) > 1:
        raise ConversionError(
            f"layer norm {module_path(node)!r} over the axes {list(shape)} comes out wrong in ncnn; "
            "write normalization over channels, rows and columns as nn.GroupNorm(1, channels)"
        )


def _operator(node: fx.Node) -> str:
    """Name of an ATen operator alone: ``aten.avg_pool2d.default`` -> ``avg_pool2d``."""
    schema = getattr(node.target, "_schema", None)
    name = schema.name if schema is not None else getattr(node.target, "__name__", str(node.target))
    return name.rpartition("::")[2]
