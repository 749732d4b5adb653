"""Parts as the runtime makes them: gathered by readiness, not cut along the order."""

from __future__ import annotations

from mobile_matting_export.delegates.split_graph import split_graph, split_in_order
from mobile_matting_export.inspection import Graph, Op, Part, Tensor


def chain(*edges: tuple[tuple[int, ...], tuple[int, ...]]) -> Graph:
    count = 1 + max(tensor for reads, writes in edges for tensor in (*reads, *writes))
    ops = tuple(Op(number, "ADD", 1, reads, writes) for number, (reads, writes) in enumerate(edges))
    return Graph("tflite", tuple(Tensor(str(i), (1,), "FLOAT32") for i in range(count)), ops, (0,), (count - 1,))


def test_a_refused_operation_cuts_in_three() -> None:
    graph = chain(((0,), (1,)), ((1,), (2,)), ((2,), (3,)))
    expected = (Part(True, (0,)), Part(False, (1,)), Part(True, (2,)))
    assert split_graph(graph, [True, False, True]) == split_in_order([True, False, True]) == expected


def test_an_independent_branch_joins_the_first_part() -> None:
    """0 -> 1(refused) -> 3 joins; 2 needs only the input: it is computed with 0."""
    graph = chain(((0,), (1,)), ((1,), (2,)), ((0,), (3,)), ((2, 3), (4,)))
    taken = [True, False, True, True]
    assert split_graph(graph, taken) == (Part(True, (0, 2)), Part(False, (1,)), Part(True, (3,)))
    assert split_in_order(taken) == (Part(True, (0,)), Part(False, (1,)), Part(True, (2, 3)))


def test_absent_inputs_wait_for_nothing() -> None:
    assert split_graph(chain(((0, -1), (1,))), [True]) == (Part(True, (0,)),)


def test_operations_that_wait_for_one_another_are_left_to_the_cpu() -> None:
    graph = chain(((2,), (1,)), ((1,), (2,)))
    assert split_graph(graph, [True, True]) == (Part(False, (0, 1)),)


def test_a_graph_without_operations_has_no_parts() -> None:
    assert split_graph(Graph("tflite", (Tensor("x", (1,), "FLOAT32"),), (), (0,), (0,)), []) == ()
