"""The busiest operation of graphs whose peak is known by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobile_matting_export.delegates.estimate_memory import estimate_memory
from mobile_matting_export.inspection import Graph, Op, Tensor

KB = (1, 16, 16)  # 256 floats: 1024 bytes


def graph_of(*ops: tuple[str, tuple[int, ...], tuple[int, ...]], shapes: dict[int, tuple[int, ...] | None]) -> Graph:
    tensors = tuple(Tensor(str(number), shape, "FLOAT32") for number, shape in sorted(shapes.items()))
    made = tuple(Op(number, kind, 1, reads, writes) for number, (kind, reads, writes) in enumerate(ops))
    return Graph("tflite", tensors, made, (0,), (len(shapes) - 1,))


def test_a_chain_needs_input_source_and_result() -> None:
    graph = graph_of(("A", (0,), (1,)), ("B", (1,), (2,)), ("C", (2,), (3,)), shapes=dict.fromkeys(range(4), KB))
    memory = estimate_memory(graph)
    assert (memory.peak_bytes, memory.at) == (3 * 1024, 1)
    assert memory.how.startswith("estimate")


def test_a_skip_is_kept_until_it_is_read() -> None:
    graph = graph_of(
        ("A", (0,), (1,)), ("B", (1,), (2,)), ("C", (2,), (3,)), ("D", (1, 3), (4,)), shapes=dict.fromkeys(range(5), KB)
    )
    assert estimate_memory(graph).peak_bytes == 4 * 1024


def test_stored_weights_are_no_tensors_between_operations() -> None:
    graph = graph_of(("A", (0, 1), (2,)), shapes=dict.fromkeys(range(3), KB))
    stored = replace(graph, tensors=(graph.tensors[0], replace(graph.tensors[1], constant=True), graph.tensors[2]))
    assert estimate_memory(stored).peak_bytes == 2 * 1024


def test_a_layer_that_passes_on_costs_nothing() -> None:
    graph = graph_of(
        ("A", (0,), (1,)), ("Split", (1,), (2, 3)), ("B", (2, 3), (4,)), shapes=dict.fromkeys(range(5), KB)
    )
    assert estimate_memory(graph).peak_bytes == 3 * 1024


@pytest.mark.parametrize(("dtype", "size"), [("INT8", 256), ("FLOAT16", 512), ("FLOAT32", 1024)])
def test_types_have_their_widths(dtype: str, size: int) -> None:
    graph = graph_of(("A", (0,), (1,)), shapes=dict.fromkeys(range(2), KB))
    narrow = replace(graph, tensors=tuple(replace(tensor, dtype=dtype) for tensor in graph.tensors))
    assert estimate_memory(narrow).peak_bytes == 2 * size


@pytest.mark.parametrize("shape", [None, (1, -1, 16)])
def test_an_unknown_shape_gives_no_figure(shape: tuple[int, ...] | None) -> None:
    memory = estimate_memory(graph_of(("A", (0,), (1,)), shapes={0: KB, 1: shape}))
    assert memory.peak_bytes is None and memory.unknown
