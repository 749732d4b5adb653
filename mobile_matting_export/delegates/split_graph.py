"""Splits a graph into what an accelerator computes and what the CPU does, as the TFLite runtime does.

The runtime walks the operations in order and gathers into one part all that are of one side and whose inputs
are there, then all of the other side, until none is left (tensorflow/lite/graph_info.cc). An independent branch
therefore joins an earlier part, where cutting along the order of execution would count one part more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from mobile_matting_export.inspection import Graph, Op, Part


def split_graph(graph: Graph, taken: Sequence[bool]) -> tuple[Part, ...]:
    """The parts in the order in which they run; ``taken[n]`` says on which side operation ``n`` is."""
    ready = set(range(-1, len(graph.tensors))) - set(graph.producers)
    waiting = list(graph.ops)
    parts: list[Part] = []
    while waiting:
        side = next((taken[op.number] for op in waiting if _is_ready(op, ready)), None)
        if side is None:  # a damaged file: operations wait for one another
            parts.append(Part(False, tuple(op.number for op in waiting)))
            break
        part: list[int] = []
        moved = True
        while moved:
            moved = False
            for op in tuple(waiting):
                if taken[op.number] == side and _is_ready(op, ready):
                    part.append(op.number)
                    ready.update(op.outputs)
                    waiting.remove(op)
                    moved = True
        parts.append(Part(side, tuple(sorted(part))))
    return tuple(parts)


def split_in_order(taken: Sequence[bool]) -> tuple[Part, ...]:
    """Runs of one side along the order of execution, as ncnn moves between GPU and CPU."""
    numbered = itertools.groupby(enumerate(taken), key=lambda pair: pair[1])
    return tuple(Part(side, tuple(number for number, _ in run)) for side, run in numbered)


def _is_ready(op: Op, ready: set[int]) -> bool:
    return ready.issuperset(op.inputs)
