"""Conditions on what an operation reads: how many tensors, computed or stored."""

from __future__ import annotations

from mobile_matting_export.delegates.facts import (
    FLOATS,
    Facts,
    Predicate,
    constant_inputs,
    fails_if,
    is_constant,
    made,
    runtime_inputs,
    tensor_at,
)
from mobile_matting_export.inspection import Graph, Op


def some_runtime_input(op: Op, graph: Graph) -> Facts | None:
    """Something it reads is computed or fed."""
    # a stored weight's own DEQUANTIZE is folded into what reads it
    return fails_if(op.kind != "DEQUANTIZE" and not runtime_inputs(op, graph))


def input_count(wanted: int) -> Predicate:
    """It reads exactly ``wanted`` tensors."""

    def check(op: Op, graph: Graph) -> Facts | None:
        count = len(graph.inputs_of(op))
        return fails_if(count != wanted, count=count)

    return check


def runtime_count(fewest: int, most: int) -> Predicate:
    """It reads ``fewest`` to ``most`` tensors that are computed or fed."""

    def check(op: Op, graph: Graph) -> Facts | None:
        count = len(runtime_inputs(op, graph))
        return fails_if(not fewest <= count <= most, count=count)

    return check


def constant_count(wanted: int) -> Predicate:
    """It reads exactly ``wanted`` stored tensors."""

    def check(op: Op, graph: Graph) -> Facts | None:
        count = len(constant_inputs(op, graph))
        return fails_if(count != wanted, count=count)

    return check


def constant_at(position: int) -> Predicate:
    """Input number ``position`` is stored in the file."""
    return lambda op, graph: fails_if(not is_constant(op, graph, position))


def runtime_source(op: Op, graph: Graph) -> Facts | None:
    """The first input is computed or fed."""
    return fails_if(is_constant(op, graph, 0))


def constant_parameters(op: Op, graph: Graph) -> Facts | None:
    """All inputs but the first are stored in the file."""
    count = len([tensor for tensor in graph.inputs_of(op)[1:] if tensor.constant])
    expected = len(graph.inputs_of(op)) - 1
    return fails_if(count != expected, count=count, expected=expected)


def binary_operands(op: Op, graph: Graph) -> Facts | None:
    """Two computed operands, or one and a stored one."""
    counts = (len(runtime_inputs(op, graph)), len(constant_inputs(op, graph)))
    return fails_if(counts not in ((2, 0), (1, 1)))


def distinct_operands(op: Op, graph: Graph) -> Facts | None:
    """The two operands are not one tensor."""
    return fails_if(len(op.inputs) == 2 and op.inputs[0] == op.inputs[1])


def constant_int32_axes(op: Op, graph: Graph) -> Facts | None:
    """The second input is stored as int32."""
    axes = tensor_at(op, graph, 1)
    return fails_if(axes is None or not axes.constant or axes.dtype != "INT32")


def logical_consumer(op: Op, graph: Graph) -> Facts | None:
    """A truth value is read by one CAST or SELECT alone, which makes float."""
    readers = graph.consumers(op.outputs[0])
    fits = (
        len(readers) == 1
        and readers[0].kind in ("CAST", "SELECT", "SELECT_V2")
        and made(readers[0], graph).dtype in FLOATS
    )
    return fails_if(not fits)


def cumsum_axis(op: Op, graph: Graph) -> Facts | None:
    """Float values, an axis stored as int32."""
    return fails_if(constant_int32_axes(op, graph) is not None or graph.inputs_of(op)[0].dtype not in FLOATS)
