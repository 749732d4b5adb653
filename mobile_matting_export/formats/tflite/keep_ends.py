"""Gives a file of ai-edge-quantizer the inputs and outputs of the float file: same names, types and order.

The quantizer reads a tensor through a twin: a QUANTIZE or DEQUANTIZE writes ``NAME_quantized`` or ``NAME_dequant``,
and who read the tensor reads that. It counts the graph's outputs among the readers, so an output that an operation
reads, too (the state of a network of video) is given out as the int8 numbers made for that operation, while the
signature still names the float tensor, or one that is int8 now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobile_matting_export.errors import PlanRefused
from mobile_matting_export.formats.tflite.read_file import Subgraph, TfliteFile


def restore_ends(model: Any, source: TfliteFile) -> None:
    """Let the main graph of ``model`` (``ModelT``) and its signatures begin and end with the tensors of ``source``.

    Where a result became int8, the float32 tensor that a DEQUANTIZE makes of it takes over its name. What has no such
    tensor stays as it is: ``require_same_ends`` says so.
    """
    before, graph = source.main, model.subgraphs[0]
    names = [tensor.name for tensor in graph.tensors]
    ends = {}
    for index in (*before.inputs, *before.outputs):
        name = before.tensors[index].name.encode()
        if name in names:
            ends[index] = _in_float(model, names.index(name))
    graph.inputs = _replaced(graph.inputs, before.inputs, ends)
    graph.outputs = _replaced(graph.outputs, before.outputs, ends)
    for signature, entries in zip(model.signatureDefs or (), source.signatures, strict=True):
        for ours, theirs in ((signature.inputs, entries.inputs), (signature.outputs, entries.outputs)):
            for entry in ours:
                entry.tensorIndex = ends.get(theirs[entry.name.decode()], entry.tensorIndex)


def require_same_ends(source: Subgraph, made: Subgraph) -> None:
    """Refuse a file whose inputs or outputs are not those of the float file.

    Raises:
        PlanRefused: a name, a type, their number or their order differs; says both.
    """
    for what, wanted, found in (
        ("takes", _describe(source, source.inputs), _describe(made, made.inputs)),
        ("gives", _describe(source, source.outputs), _describe(made, made.outputs)),
    ):
        if wanted != found:
            raise PlanRefused(
                f"ai-edge-quantizer wrote a file that {what} {found} where the float file {what} {wanted}; keep the "
                "layers at its ends in float, or use fp16"
            )


def _replaced(found: Sequence[int], wanted: Sequence[int], ends: Mapping[int, int]) -> np.ndarray:
    pairs = zip(found, wanted, strict=True)
    return np.array([ends.get(index, other) for other, index in pairs], np.int32)


def _in_float(model: Any, index: int) -> int:
    """The tensor, or the float32 one made of it, which gets its name."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    if graph.tensors[index].type != schema.TensorType.INT8:
        return index
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind == schema.BuiltinOperator.DEQUANTIZE and index in operator.inputs:
            twin = int(operator.outputs[0])
            name = graph.tensors[index].name
            graph.tensors[index].name, graph.tensors[twin].name = name + b"_int8", name
            return twin
    return index


def _describe(graph: Subgraph, ends: tuple[int, ...]) -> str:
    return ", ".join(f"{graph.tensors[index].name} ({graph.tensors[index].dtype})" for index in ends)
