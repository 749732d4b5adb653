"""Estimates the peak memory of the tensors between operations, by when each is written and last read."""

from __future__ import annotations

import math

from mobile_matting_export.inspection import Graph, Memory, Tensor

_HOW = (
    "estimate: bytes of all tensors that are needed at once at the busiest operation, inputs kept throughout; "
    "runtimes add gaps, scratch and packed weights"
)
_BYTES = {
    "FLOAT32": 4,
    "INT32": 4,
    "UINT32": 4,
    "FLOAT16": 2,
    "BFLOAT16": 2,
    "INT16": 2,
    "UINT16": 2,
    "INT8": 1,
    "UINT8": 1,
    "BOOL": 1,
    "INT64": 8,
    "UINT64": 8,
    "FLOAT64": 8,
}
# the TFLite arena places tensors at multiples of this; ncnn's allocator does the same
_ALIGNMENT = 64
_PASS_ON = ("Split", "Noop", "Dropout")  # ncnn's; TFLite has no such operation


def estimate_memory(graph: Graph) -> Memory:
    """The peak, and the operation at which it occurs; no figure where a shape is unknown."""
    shared = _share(graph)
    sizes = [0 if tensor.constant else _bytes(tensor) for tensor in graph.tensors]
    used = {index for op in graph.ops for index in (*op.inputs, *op.outputs) if index >= 0}
    if any(sizes[index] is None for index in used):
        return Memory(None, None, _HOW, "the file does not state all shapes")
    born = {shared[index]: 0 for index in graph.inputs}
    # an input may be read again by the caller, a result is
    dies = {shared[index]: len(graph.ops) for index in (*graph.inputs, *graph.outputs)}
    for op in graph.ops:
        for index in map(shared.__getitem__, (index for index in op.outputs if index >= 0)):
            born.setdefault(index, op.number)
            dies.setdefault(index, op.number)
        for index in map(shared.__getitem__, (index for index in op.inputs if index >= 0)):
            dies[index] = max(dies.get(index, 0), op.number)
    changes = [0] * (len(graph.ops) + 2)
    for index, begin in born.items():
        size = sizes[index] or 0
        changes[begin] += size
        changes[dies[index] + 1] -= size
    peak, at, now = 0, None, 0
    for op in graph.ops:
        now += changes[op.number]
        if now > peak:
            peak, at = now, op.number
    return Memory(peak, at, _HOW)


def _share(graph: Graph) -> list[int]:
    """Tensor -> the tensor whose memory it uses: layers that only pass a tensor on copy nothing."""
    owner = list(range(len(graph.tensors)))
    for op in graph.ops:
        if op.kind in _PASS_ON:
            for index in op.outputs:
                owner[index] = owner[op.inputs[0]]
    return owner


def _bytes(tensor: Tensor) -> int | None:
    if tensor.shape is None or tensor.dtype not in _BYTES or any(size < 0 for size in tensor.shape):
        return None
    return math.ceil(math.prod(tensor.shape) * _BYTES[tensor.dtype] / _ALIGNMENT) * _ALIGNMENT
