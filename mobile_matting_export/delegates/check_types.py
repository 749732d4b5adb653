"""Conditions on number types and quantization."""

from __future__ import annotations

from collections.abc import Callable

from mobile_matting_export.delegates.facts import (
    FLOATS,
    Facts,
    fails_if,
    made,
    runtime_tensors,
    shape_of,
    size_of,
)
from mobile_matting_export.inspection import Graph, Op, Tensor

_COMPARISONS = ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL", "LOGICAL_AND")
_TRUTH = (*_COMPARISONS, "CAST", "SELECT", "SELECT_V2")
_INTEGER = ("CAST", "ONE_HOT", "GATHER")


def runtime_types_classic(op: Op, graph: Graph) -> Facts | None:
    """Computed tensors are float or 8 bit; truth values and int32 where the operation is for them."""
    known = [*FLOATS, "INT8", "UINT8"]
    known += ["BOOL"] if op.kind in _TRUTH else []
    known += ["INT32"] if op.kind in _INTEGER else []
    return _other_type(op, graph, lambda tensor: tensor.dtype in known)


def runtime_types_ml_drift(op: Op, graph: Graph) -> Facts | None:
    """No computed tensor is 64 bit wide."""
    return _other_type(op, graph, lambda tensor: tensor.dtype not in ("INT64", "UINT64", "FLOAT64", "STRING"))


def _other_type(op: Op, graph: Graph, fits: Callable[[Tensor], bool]) -> Facts | None:
    other = next((tensor for tensor in runtime_tensors(op, graph) if not fits(tensor)), None)
    return None if other is None else {"dtype": other.dtype, "tensor": other.name}


def indices_int32(op: Op, graph: Graph) -> Facts | None:
    """Indices are int32."""
    indices = graph.inputs_of(op)[1]
    return fails_if(indices.dtype != "INT32", dtype=indices.dtype)


def output_int32(op: Op, graph: Graph) -> Facts | None:
    """The result is int32."""
    result = made(op, graph)
    return fails_if(result.dtype != "INT32", dtype=result.dtype, tensor=result.name)


def select_types(op: Op, graph: Graph) -> Facts | None:
    """The condition is float or truth value, branches are of the result's shape or one stored number."""
    condition, *branches = graph.inputs_of(op)
    result = shape_of(made(op, graph))
    fits = condition.dtype in ("BOOL", *FLOATS) and all(
        shape_of(branch) == result or (branch.constant and size_of(branch) == 1) for branch in branches
    )
    return fails_if(not fits)


def cast_pair(op: Op, graph: Graph) -> Facts | None:
    """A cast between float and int32, or from a comparison to float."""
    source, result = graph.inputs_of(op)[0].dtype, made(op, graph).dtype
    producer = graph.producers.get(op.inputs[0])
    truth = source == "BOOL" and result in FLOATS
    alone = producer is not None and producer.kind in _COMPARISONS and len(graph.consumers(op.inputs[0])) == 1
    numbers = ("FLOAT32", "INT32")
    fits = (truth and alone) or (source in FLOATS and result == "BOOL") or (source in numbers and result in numbers)
    return fails_if(not fits, source=source, made=result)


def cast_no_int64(op: Op, graph: Graph) -> Facts | None:
    """Neither side is int64."""
    wide = next((t for t in (*graph.inputs_of(op), *graph.outputs_of(op)) if t.dtype == "INT64"), None)
    return None if wide is None else {"tensor": wide.name}


def scale_per_tensor(op: Op, graph: Graph) -> Facts | None:
    """The result has one scale."""
    return fails_if(len(made(op, graph).scales) != 1)


def dequantize_not_int16(op: Op, graph: Graph) -> Facts | None:
    """The input is not int16."""
    return fails_if(graph.inputs_of(op)[0].dtype == "INT16")


def one_scale(op: Op, graph: Graph) -> Facts | None:
    """The input has one scale."""
    return fails_if(len(graph.inputs_of(op)[0].scales) > 1)


def one_hot_rules(op: Op, graph: Graph) -> Facts | None:
    """int32 indices, stored float values, along the last axis."""
    tensors = graph.inputs_of(op)
    axis = int(op.options.get("axis", -1))
    fits = (
        tensors[0].dtype == "INT32"
        and all(t.constant and size_of(t) == 1 and t.dtype in FLOATS for t in tensors[2:])
        and axis in (-1, made(op, graph).rank - 1)
    )
    return fails_if(not fits)
