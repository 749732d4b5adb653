"""Conditions on shapes and numbers of axes."""

from __future__ import annotations

import math

from mobile_matting_export.delegates.facts import (
    Facts,
    Predicate,
    constant_inputs,
    fails_if,
    made,
    shape_of,
    size_of,
    tensor_at,
    write_shape,
)
from mobile_matting_export.inspection import Graph, Op


def rank_below_5(op: Op, graph: Graph) -> Facts | None:
    """No tensor, also no stored one, has five axes."""
    deep = next((t for t in (*graph.inputs_of(op), *graph.outputs_of(op)) if t.rank > 4), None)
    return None if deep is None else {"tensor": deep.name, "shape": write_shape(shape_of(deep)), "rank": deep.rank}


def mixed_rank_broadcast(op: Op, graph: Graph) -> Facts | None:
    """Operands have equally many axes, or one of the pairs that are aligned rightly."""
    first, second = (shape_of(tensor) for tensor in graph.inputs_of(op)[:2])
    long, short = (first, second) if len(first) >= len(second) else (second, first)
    fits = (
        len(long) == len(short)
        or len(short) <= 1
        or (len(long) == 4 and long[0] == 1 and len(short) == 3)
        or (len(long) == 4 and long[0] == 1 and short == (1, 1))
        or (len(long) == 4 and short == (long[0], long[3]))
    )
    return fails_if(not fits, first=write_shape(first), second=write_shape(second))


def broadcastable(op: Op, graph: Graph) -> Facts | None:
    """Operands fit by the rules of numpy."""
    first, second = (shape_of(tensor) for tensor in graph.inputs_of(op)[:2])
    pairs = zip(reversed(first), reversed(second), strict=False)
    fits = all(a == b or 1 in (a, b) for a, b in pairs)
    return fails_if(not fits, first=write_shape(first), second=write_shape(second))


def constant_operand_classic(op: Op, graph: Graph) -> Facts | None:
    """A stored operand is one number, one per channel, or one picture."""
    for tensor in constant_inputs(op, graph):
        shape = shape_of(tensor)
        linear = math.prod(shape[:-1]) == 1
        if not linear and (len(shape) > 4 or (len(shape) == 4 and shape[0] != 1)):
            return {"shape": write_shape(shape)}
    return None


def constant_operand_ml_drift(op: Op, graph: Graph) -> Facts | None:
    """A stored operand has at most four axes."""
    deep = next((tensor for tensor in constant_inputs(op, graph) if tensor.rank > 4), None)
    return None if deep is None else {"shape": write_shape(shape_of(deep))}


def alpha_shape(op: Op, graph: Graph) -> Facts | None:
    """Slopes are one per channel or one per value."""
    source, alpha = (shape_of(tensor) for tensor in graph.inputs_of(op)[:2])
    stripped = alpha[1:] if len(alpha) == 4 and alpha[0] == 1 else alpha
    per_channel = math.prod(stripped[:-1]) == 1 and stripped[-1:] == source[-1:]
    fits = per_channel or stripped == source[1:]
    return fails_if(not fits, alpha=write_shape(alpha), source=write_shape(source))


def depthwise_rank_4(op: Op, graph: Graph) -> Facts | None:
    """Input, filter and output have four axes."""
    return fails_if(any(tensor.rank != 4 for tensor in (*graph.inputs_of(op)[:2], made(op, graph))))


def depthwise_shapes(op: Op, graph: Graph) -> Facts | None:
    """Filter, input and output agree on the channels."""
    source, weights = (shape_of(tensor) for tensor in graph.inputs_of(op)[:2])
    result = shape_of(made(op, graph))
    fits = weights[-1] == result[-1] == source[-1] * int(op.options.get("depthMultiplier", 1))
    return fails_if(not fits, filter=write_shape(weights), made=write_shape(result))


def keep_num_dims_rank(op: Op, graph: Graph) -> Facts | None:
    """A linear layer that keeps the axes of its input has as many in its output."""
    source, result = graph.inputs_of(op)[0], made(op, graph)
    wrong = bool(op.options.get("keepNumDims")) and source.rank != result.rank
    return fails_if(wrong, source=write_shape(shape_of(source)), made=write_shape(shape_of(result)))


def weight_channels(op: Op, graph: Graph) -> Facts | None:
    """The weights are as wide as the input's last axis."""
    source, weights = (shape_of(tensor) for tensor in graph.inputs_of(op)[:2])
    return fails_if(source[-1:] != weights[-1:], source=write_shape(source), filter=write_shape(weights))


def matmul_constant(ranks: tuple[int, ...]) -> Predicate:
    """A stored factor stands on the right, with a number of axes in ``ranks``."""

    def check(op: Op, graph: Graph) -> Facts | None:
        left, right = graph.inputs_of(op)[:2]
        if left.constant:
            return {"shape": write_shape(shape_of(left))}
        return fails_if(right.constant and right.rank not in ranks, shape=write_shape(shape_of(right)))

    return check


def concat_single_axis(op: Op, graph: Graph) -> Facts | None:
    """Inputs and output differ along one axis at most."""
    result = shape_of(made(op, graph))
    shapes = [shape_of(tensor) for tensor in graph.inputs_of(op)]
    if any(len(shape) != len(result) for shape in shapes):
        return {}
    different = {axis for shape in shapes for axis in range(len(result)) if shape[axis] != result[axis]}
    return fails_if(len(different) > 1)


def ranks(*allowed: int) -> Predicate:
    """The first input has a number of axes in ``allowed``."""

    def check(op: Op, graph: Graph) -> Facts | None:
        source = graph.inputs_of(op)[0]
        return fails_if(source.rank not in allowed, rank=source.rank, shape=write_shape(shape_of(source)))

    return check


def slice_shapes(op: Op, graph: Graph) -> Facts | None:
    """The stated size is that of the result."""
    size = tensor_at(op, graph, 2)
    result = shape_of(made(op, graph))
    if size is None or size.values is None:
        return None
    fits = all(int(wanted) in (-1, got) for wanted, got in zip(size.values, result, strict=False))
    return fails_if(not fits, size=write_shape(tuple(map(int, size.values))), made=write_shape(result))


def permutation_length(op: Op, graph: Graph) -> Facts | None:
    """Two, three or four axes are permuted."""
    permutation = tensor_at(op, graph, 1)
    count = 0 if permutation is None else size_of(permutation)
    return fails_if(count not in (2, 3, 4), count=count)


def indices_rank_1(op: Op, graph: Graph) -> Facts | None:
    """Indices are a list."""
    indices = graph.inputs_of(op)[1]
    return fails_if(indices.rank != 1, shape=write_shape(shape_of(indices)))


def padding_shape(op: Op, graph: Graph) -> Facts | None:
    """Paddings are stated for three or four axes."""
    paddings = tensor_at(op, graph, 1)
    shape = () if paddings is None else shape_of(paddings)
    return fails_if(shape not in ((4, 2), (3, 2)), shape="x".join(map(str, shape)) or "nothing")


def scalar_padding(op: Op, graph: Graph) -> Facts | None:
    """The padding value is one stored number."""
    value = tensor_at(op, graph, 2)
    return fails_if(value is None or not value.constant or size_of(value) != 1)


def stored_rank_2_to_4(op: Op, graph: Graph) -> Facts | None:
    """A stored 8 bit weight has two to four axes."""
    source = graph.inputs_of(op)[0]
    # halves never reach the parser: their readers are pointed at the stored tensor itself
    wrong = source.constant and source.dtype != "FLOAT16" and source.rank not in (2, 3, 4)
    return fails_if(wrong, tensor=source.name, rank=source.rank)
