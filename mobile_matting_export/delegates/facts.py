"""What predicates ask of an operation: its constants, its types, its shapes, written as messages write them."""

from __future__ import annotations

import math
from collections.abc import Callable

from mobile_matting_export.inspection import Graph, Op, Tensor

Facts = dict[str, object]
"""Values for a message's placeholders."""

Predicate = Callable[[Op, Graph], Facts | None]
"""Takes an operation and its graph; None where the operation is fine, else the facts for the message."""

FLOATS = ("FLOAT32", "FLOAT16")

# the schema's ActivationFunctionType
_ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


def tensor_at(op: Op, graph: Graph, position: int) -> Tensor | None:
    """Input number ``position``, None where it is absent."""
    if position >= len(op.inputs) or op.inputs[position] < 0:
        return None
    return graph.tensors[op.inputs[position]]


def is_constant(op: Op, graph: Graph, position: int) -> bool:
    """Whether input number ``position`` is stored in the file."""
    tensor = tensor_at(op, graph, position)
    return tensor is not None and tensor.constant


def runtime_inputs(op: Op, graph: Graph) -> tuple[Tensor, ...]:
    """The inputs that are computed or fed."""
    return tuple(tensor for tensor in graph.inputs_of(op) if not tensor.constant)


def constant_inputs(op: Op, graph: Graph) -> tuple[Tensor, ...]:
    """The inputs that are stored in the file."""
    return tuple(tensor for tensor in graph.inputs_of(op) if tensor.constant)


def runtime_tensors(op: Op, graph: Graph) -> tuple[Tensor, ...]:
    """Inputs that are computed or fed, then the outputs."""
    return (*runtime_inputs(op, graph), *graph.outputs_of(op))


def activation(op: Op) -> str:
    """Name of the fused activation, ``NONE`` without one."""
    number = int(op.options.get("fusedActivationFunction", 0))
    return _ACTIVATIONS[number] if 0 <= number < len(_ACTIVATIONS) else str(number)


def made(op: Op, graph: Graph) -> Tensor:
    """The first output."""
    return graph.outputs_of(op)[0]


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape, empty where it is unknown."""
    return tensor.shape or ()


def size_of(tensor: Tensor) -> int:
    """Number of values."""
    return math.prod(shape_of(tensor))


def write_shape(shape: tuple[int, ...]) -> str:
    """``[1,64,64,16]``."""
    return f"[{','.join(map(str, shape))}]"


def fails_if(wrong: bool, **facts: object) -> Facts | None:
    """The facts where something is wrong, else None: what a predicate returns."""
    return facts if wrong else None
