"""Lists the operations of a float TFLite file that ai-edge-quantizer can make int8, by the names of their outputs."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path

from mobile_matting_export.formats.tflite.narrow_weights import WEIGHT_INPUT
from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph, read_file
from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.quantization.layer import QuantizableLayer

_CONFIG = "static_wi8_ai8"
# the quantizer's own name -> the schema's
_RENAMED = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV"}
_NO_OPERATORS = ("INPUT", "OUTPUT")


def list_int8_layers(files: tuple[Path, ...]) -> tuple[QuantizableLayer, ...]:
    """The operations of the fp32 file that can be int8, in order of execution.

    An operation's name is that of its first output, which ``shorten_names`` made unique.

    Raises:
        UsageError: the file is missing, no TFLite file, or damaged.
    """
    graph = read_graph(files[0])
    subgraph = read_file(files[0]).main
    return tuple(
        QuantizableLayer(
            name=layer_name(subgraph, operator),
            module=op.module,
            kind=op.kind,
            macs=op.macs or 0,
            weight_bytes=_weight_bytes(subgraph, operator),
            elements=math.prod(subgraph.tensors[operator.outputs[0]].shape),
        )
        for operator, op in zip(subgraph.operators, graph.ops, strict=True)
        if can_be_int8(subgraph, operator)
    )


def can_be_int8(subgraph: Subgraph, operator: Operator) -> bool:
    """Whether the quantizer knows this type of operation in int8 and it takes and gives float32 maps."""
    return operator.kind in int8_kinds() and all(
        subgraph.tensors[index].dtype == "FLOAT32" for index in (*_data_inputs(subgraph, operator), *operator.outputs)
    )


def layer_name(subgraph: Subgraph, operator: Operator) -> str:
    """The name of the operation's first output."""
    return subgraph.tensors[operator.outputs[0]].name


@functools.cache
def int8_kinds() -> frozenset[str]:
    """Types of operations, by the schema's names, that the installed quantizer computes in int8."""
    from ai_edge_quantizer import default_policy

    listed = json.loads(default_policy.DEFAULT_JSON_POLICY)["ops_per_config"][_CONFIG]
    return frozenset(_RENAMED.get(kind, kind) for kind in listed if kind not in _NO_OPERATORS)


def _data_inputs(subgraph: Subgraph, operator: Operator) -> Iterator[int]:
    """Inputs that are computed, not stored in the file."""
    return (index for index in operator.inputs if index >= 0 and not subgraph.tensors[index].constant)


def _weight_bytes(subgraph: Subgraph, operator: Operator) -> int:
    if operator.kind not in WEIGHT_INPUT:
        return 0
    return 4 * math.prod(subgraph.tensors[operator.inputs[WEIGHT_INPUT[operator.kind]]].shape)


def list_tail(files: tuple[Path, ...]) -> frozenset[str]:
    """Layers behind the last weights on every way to an output: they make the matte out of a few maps.

    int8 cannot say 1: a sigmoid's scale is 1/256, so all of a foreground is off by 0.004. In float they cost little.
    """
    subgraph = read_file(files[0]).main
    wanted, found = set(subgraph.outputs), set()
    for operator in reversed(subgraph.operators):
        if operator.kind not in WEIGHT_INPUT and wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            if can_be_int8(subgraph, operator):
                found.add(layer_name(subgraph, operator))
    return frozenset(found)
