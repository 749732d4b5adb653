"""Conditions of XNNPACK: float or 8 bit, stored parameters, few inputs."""

from __future__ import annotations

from mobile_matting_export.delegates.facts import (
    FLOATS,
    Facts,
    Predicate,
    activation,
    fails_if,
    made,
    runtime_tensors,
    tensor_at,
)
from mobile_matting_export.inspection import Graph, Op, Tensor

_EIGHT_BIT = ("INT8", "UINT8")


def plain_activation(op: Op, graph: Graph) -> Facts | None:
    """No activation, or one that is a clamp."""
    name = activation(op)
    return fails_if(name not in ("NONE", "RELU", "RELU_N1_TO_1", "RELU6"), activation=name)


def float_or_8_bit(op: Op, graph: Graph) -> Facts | None:
    """Computed tensors are float or 8 bit."""
    return _of_types(op, graph, (*FLOATS, *_EIGHT_BIT))


def float_only(op: Op, graph: Graph) -> Facts | None:
    """Computed tensors are float."""
    return _of_types(op, graph, FLOATS)


def float_or_int8(op: Op, graph: Graph) -> Facts | None:
    """Computed tensors are float or signed 8 bit."""
    return _of_types(op, graph, (*FLOATS, "INT8"))


def float32_or_8_bit(op: Op, graph: Graph) -> Facts | None:
    """Computed tensors are float32 or 8 bit."""
    return _of_types(op, graph, ("FLOAT32", *_EIGHT_BIT))


def _of_types(op: Op, graph: Graph, known: tuple[str, ...]) -> Facts | None:
    other = next((tensor for tensor in runtime_tensors(op, graph) if tensor.dtype not in known), None)
    return None if other is None else {"dtype": other.dtype, "index": graph.tensors.index(other)}


def quantize_types(op: Op, graph: Graph) -> Facts | None:
    """To or from 8 bit with one scale, not between signed and unsigned, or from stored halves."""
    source, result = graph.inputs_of(op)[0], made(op, graph)
    floats, eights = ("FLOAT32",), _EIGHT_BIT
    fits = (
        (source.dtype in (*floats, result.dtype) and result.dtype in eights)
        or (source.dtype in eights and result.dtype in floats)
        or (source.constant and source.dtype == "FLOAT16")
    )
    return fails_if(not fits, source=source.dtype, made=result.dtype)


def has_bias(op: Op, graph: Graph) -> Facts | None:
    """A convolution has its third input."""
    return fails_if(tensor_at(op, graph, 2) is None)


def static_from(first: int) -> Predicate:
    """Every input from number ``first`` on is stored in the file."""

    def check(op: Op, graph: Graph) -> Facts | None:
        computed = next((i for i in op.inputs[first:] if i >= 0 and not graph.tensors[i].constant), None)
        return None if computed is None else {"index": computed}

    return check


def static_at(*positions: int) -> Predicate:
    """The inputs at ``positions`` are stored in the file, as far as they are there."""

    def check(op: Op, graph: Graph) -> Facts | None:
        present = [op.inputs[position] for position in positions if position < len(op.inputs)]
        computed = next((index for index in present if index >= 0 and not graph.tensors[index].constant), None)
        return None if computed is None else {"index": computed}

    return check


def pooling_window(op: Op, graph: Graph) -> Facts | None:
    """A pooling that does not only skip."""
    height, width = int(op.options.get("strideH", 1)), int(op.options.get("strideW", 1))
    single = op.options.get("filterHeight") == 1 and op.options.get("filterWidth") == 1
    return fails_if(single and max(height, width) > 1, height=height, width=width)


def pooling_stride(op: Op, graph: Graph) -> Facts | None:
    """A pooling whose steps are not wider than its window."""
    for side, stride, window in (("height", "strideH", "filterHeight"), ("width", "strideW", "filterWidth")):
        step, seen = int(op.options.get(stride, 1)), int(op.options.get(window, 1))
        if step > seen:
            return {"side": side, "stride": step, "window": seen}
    return None


def positive_sizes(op: Op, graph: Graph) -> Facts | None:
    """A slice whose sizes are all stated."""
    size = tensor_at(op, graph, 2)
    return fails_if(size is not None and size.values is not None and min(size.values, default=1) <= 0)


def rank_up_to_6(op: Op, graph: Graph) -> Facts | None:
    """No tensor has more than six axes."""
    deep = next((index for index in (*op.inputs, *op.outputs) if index >= 0 and graph.tensors[index].rank > 6), None)
    return None if deep is None else {"rank": graph.tensors[deep].rank, "index": deep}


def addition_scales(op: Op, graph: Graph) -> Facts | None:
    """The scale of each 8 bit input is 2^-10 to 2^8 times that of the output."""
    made_scale = _scale(made(op, graph))
    for tensor in graph.inputs_of(op):
        source = _scale(tensor)
        if source and made_scale and not 2**-10 <= source / made_scale < 2**8:
            return {"source": source, "made": made_scale}
    return None


def product_scales(op: Op, graph: Graph) -> Facts | None:
    """The product of the 8 bit inputs' scales is 2^-16 to 2^8 times the scale of the output."""
    first, second = (_scale(tensor) for tensor in graph.inputs_of(op)[:2])
    made_scale = _scale(made(op, graph))
    if not (first and second and made_scale):
        return None
    return fails_if(not 2**-16 <= first * second / made_scale < 2**8, source=first * second, made=made_scale)


def _scale(tensor: Tensor) -> float:
    return tensor.scales[0] if len(tensor.scales) == 1 else 0.0


def unit_strides(op: Op, graph: Graph) -> Facts | None:
    """A strided slice that skips nothing."""
    strides = tensor_at(op, graph, 3)
    values = () if strides is None or strides.values is None else strides.values
    other = next(((axis, int(stride)) for axis, stride in enumerate(values) if stride != 1), None)
    return None if other is None else {"axis": other[0], "stride": other[1]}


def rank_4(op: Op, graph: Graph) -> Facts | None:
    """The input has four axes."""
    rank = graph.inputs_of(op)[0].rank
    return fails_if(rank != 4, rank=rank, index=op.inputs[0])


def split_up_to_4(op: Op, graph: Graph) -> Facts | None:
    """2 to 4 parts."""
    count = len(op.outputs)
    return fails_if(not 2 <= count <= 4, count=count)


def concat_2_to_5(op: Op, graph: Graph) -> Facts | None:
    """2 to 5 inputs."""
    count = len(op.inputs)
    return fails_if(not 2 <= count <= 5, count=count)
