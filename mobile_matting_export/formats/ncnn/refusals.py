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
from mobile_matting_export.graph.provenance import describe_place, module_path, nodes_of, operator_name
from mobile_matting_export.graph.surgery import shape

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
    if not any(_PINS_BATCH_AXIS.match(operator_name(node)) for node in operators):
        raise ConversionError(
            "cannot convert this graph to ncnn: it has no convolution, pooling, resize or normalization, "
            "and without one pnnx mistakes channels for rows; convert the whole network, not a part of it"
        )
    for node in operators:
        if operator_name(node) == "avg_pool2d":
            _check_average_pool(node)
        if operator_name(node) in ("layer_norm", "native_layer_norm"):
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


def place_of(graph: fx.Graph, complaint: str) -> str:
    """Where in the network pnnx's ``complaint`` comes from, for a sentence; nothing where nobody can tell.

    pnnx begins with the operator's name: ``slice with step 2 is not supported``, ``permute 5-rank tensor is not ...``.
    """
    words = complaint.split()
    nodes = nodes_of(graph, words[0]) if words else []
    if step := re.search(r"with step (-?\d+)", complaint):
        nodes = [node for node in nodes if argument(node, 4, "step", 1) == int(step[1])]
    if rank := re.search(r"(\d+)-rank tensor", complaint):
        # its tensors have no batch axis
        nodes = [node for node in nodes if len(shape(node)) in (int(rank[1]), int(rank[1]) + 1)]
    return describe_place(nodes)
