"""Graphs that pnnx converts without complaint into a wrong network, refused before it sees them.

Each was measured: the converter ends with status 0 and the file's result is off. An operator that
pnnx does not know at all is not in here; it leaves a trace in the file, which ``lower.py`` finds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph

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
    _check_inputs(graph, [node for node in nodes if node.op == "placeholder"])
    operators = [node for node in nodes if node.op == "call_function"]
    if not any(_PINS_BATCH_AXIS.match(_operator(node)) for node in operators):
        raise ConversionError(
            "cannot convert this graph to ncnn: it has no convolution, pooling, resize or normalisation, "
            "and without one pnnx mistakes channels for rows; convert the whole network, not a part of it"
        )
    for node in operators:
        if _operator(node) == "avg_pool2d":
            _check_average_pool(node)
        if _operator(node) in ("layer_norm", "native_layer_norm"):
            _check_layer_norm(node)


def _check_inputs(graph: ExportGraph, placeholders: list[fx.Node]) -> None:
    import torch

    if len(placeholders) != len(graph.inputs):
        raise ConversionError(
            f"the graph has {len(placeholders)} inputs but {len(graph.inputs)} examples "
            f"({', '.join(graph.inputs)}); give one example per input, in order"
        )
    for (name, example), node in zip(graph.inputs.items(), placeholders, strict=True):
        if example.dtype != torch.float32 or example.ndim != 4 or example.shape[0] != 1:
            raise ConversionError(
                f"input {name!r} is {example.dtype} of shape {tuple(example.shape)}; ncnn files are made for "
                "one float32 frame of shape 1xCxHxW"
            )
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or name == "alpha":
            raise ConversionError(
                f"input {name!r} cannot be a blob's name in ncnn; use a plain identifier, not 'alpha'"
            )
        if not node.users:
            # pnnx then numbers the inputs that are left differently: the second becomes in0
            raise ConversionError(
                f"input {name!r} is not used by the network, and pnnx would mix up the others; drop it"
            )


def _check_average_pool(node: fx.Node) -> None:
    ceil_mode = _argument(node, 4, "ceil_mode", False)
    count_include_pad = _argument(node, 5, "count_include_pad", True)
    if ceil_mode and count_include_pad:
        raise ConversionError(
            f"average pooling {node.name!r} has ceil_mode=True and count_include_pad=True, which ncnn "
            "computes differently; use ceil_mode=False (equal where windows fit) or count_include_pad=False"
        )
    if _argument(node, 6, "divisor_override", None) is not None:
        raise ConversionError(
            f"average pooling {node.name!r} has divisor_override, which ncnn lacks; scale the result instead"
        )


def _check_layer_norm(node: fx.Node) -> None:
    shape = _argument(node, 1, "normalized_shape", ())
    if len(shape) > 1:
        raise ConversionError(
            f"layer norm {node.name!r} over the axes {list(shape)} comes out wrong in ncnn; "
            "write normalisation over channels, rows and columns as nn.GroupNorm(1, channels)"
        )


def _operator(node: fx.Node) -> str:
    """Name of an ATen operator alone: ``aten.avg_pool2d.default`` -> ``avg_pool2d``."""
    schema = getattr(node.target, "_schema", None)
    name = schema.name if schema is not None else getattr(node.target, "__name__", str(node.target))
    return name.rpartition("::")[2]


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    if position < len(node.args):
        return node.args[position]
    return node.kwargs.get(name, default)
