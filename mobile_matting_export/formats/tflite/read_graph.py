"""Reads a TFLite file's main graph for inspection: shapes, small constants, multiply-accumulates, modules."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.tflite.find_module import find_module
from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph, parse, read_file
from mobile_matting_export.inspection import Graph, Op, Tensor

# axes, permutations, paddings, scalars: what rules ask for; weights are larger
_SMALL = 64
_NUMPY = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def read_graph(path: Path) -> Graph:
    """Return the main graph of ``path``, ours or a stranger's.

    The result of a DEQUANTIZE of a stored weight counts as a constant: every runtime folds it.

    Raises:
        UsageError: the file is missing, no TFLite file, or damaged.
    """
    subgraph = read_file(path).main
    model = parse(path)
    folded = {
        output
        for operator in subgraph.operators
        if operator.kind == "DEQUANTIZE" and subgraph.tensors[operator.inputs[0]].constant
        for output in operator.outputs
    }
    try:
        tensors = tuple(
            Tensor(
                name=tensor.name,
                shape=tensor.shape,
                dtype=tensor.dtype,
                constant=tensor.constant or index in folded,
                values=_values(model, raw, tensor.dtype) if tensor.constant else None,
                scales=_scales(raw),
            )
            for index, (tensor, raw) in enumerate(zip(subgraph.tensors, model.subgraphs[0].tensors, strict=True))
        )
        ops = tuple(_op(number, operator, subgraph) for number, operator in enumerate(subgraph.operators))
    except IndexError as error:
        raise UsageError(f"{path} is damaged: an operation names a tensor that is not there") from error
    return Graph("tflite", tensors, ops, subgraph.inputs, subgraph.outputs, _notes(model, tensors))


def _op(number: int, operator: Operator, subgraph: Subgraph) -> Op:
    return Op(
        number=number,
        kind=operator.kind,
        version=operator.version,
        inputs=operator.inputs,
        outputs=operator.outputs,
        options=operator.options,
        macs=_macs(operator, subgraph),
        module=_module(operator, subgraph),
    )


def _module(operator: Operator, subgraph: Subgraph) -> str:
    """Of what widens a stored weight, the module of the operation that takes it: the weight has but a number."""
    if not operator.outputs:
        return ""
    found = find_module(subgraph.tensors[operator.outputs[0]].name)
    if found or operator.kind != "DEQUANTIZE":
        return found
    readers = (other for other in subgraph.operators if operator.outputs[0] in other.inputs and other.outputs)
    return next((find_module(subgraph.tensors[reader.outputs[0]].name) for reader in readers), "")


def _macs(operator: Operator, subgraph: Subgraph) -> int:
    shapes = [subgraph.tensors[index].shape if index >= 0 else () for index in operator.inputs]
    made = subgraph.tensors[operator.outputs[0]].shape if operator.outputs else ()
    match operator.kind:
        case "CONV_2D" | "DEPTHWISE_CONV_2D":  # every output pixel meets the whole filter
            return math.prod(made[:3]) * math.prod(shapes[1])
        case "TRANSPOSE_CONV":  # every input pixel does; inputs are shape, filter, image
            return math.prod(shapes[2][:3]) * math.prod(shapes[1])
        case "FULLY_CONNECTED":
            return math.prod(made[:-1]) * math.prod(shapes[1])
        case "BATCH_MATMUL":
            inner = shapes[0][-2] if operator.options.get("adjX") else shapes[0][-1]
            return math.prod(made) * inner
        case _:
            return 0


def _values(model: Any, raw: Any, dtype: str) -> tuple[float, ...] | None:
    data = model.buffers[raw.buffer].data
    if dtype not in _NUMPY or data is None or len(data) > _SMALL * 8:
        return None
    numbers = np.asarray(data, np.uint8).tobytes()
    kind = np.dtype(_NUMPY[dtype])
    if len(numbers) % kind.itemsize or len(numbers) // kind.itemsize > _SMALL:
        return None
    return tuple(np.frombuffer(numbers, kind).tolist())


def _scales(raw: Any) -> tuple[float, ...]:
    quantization = raw.quantization
    return () if quantization is None or quantization.scale is None else tuple(map(float, quantization.scale))


def _notes(model: Any, tensors: tuple[Tensor, ...]) -> tuple[str, ...]:
    notes = []
    if len(model.subgraphs) > 1:
        notes.append(f"the file holds {len(model.subgraphs)} graphs; this is the first, which runs by default")
    if any(-1 in (tensor.shape or ()) for tensor in tensors):
        notes.append("some sizes are left open (-1): figures hold for the sizes that the file states")
    return tuple(notes)
