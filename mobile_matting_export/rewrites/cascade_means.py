"""Spell means over a map as a cascade of small average pools, each an average of at most 64 numbers.

mean over n = mean over n/k of means over k, exact where k divides n. So a side is factorised: 256 is
8 x 8 x 4, and 256x256 takes three pools. Of a side's prime factor p up to 61 a pool of p x 1 is made.
A larger prime side n becomes n' = (n + 2 pad) / k cells by a depthwise convolution, stride k, zero
padding, all k weights n'/n; their mean is the mean: sum (n'/n) x / n' = sum x / n. Exact at every size.
Finds: ``mean`` over H, W or both with kept axes, and ``adaptive_avg_pool2d`` to 1x1, on 4-D maps of
more than 64 numbers a channel.
Refuses: means that drop the axes (squeeze_excite_to_conv keeps those of its layers).
Exact: yes (float32 rounding, 1e-6; more accurate than one long sum).
Half precision cannot hold the sum over a map: above 65504 it is infinite, which a variance reaches
at 256x256, and beyond 2048 terms the next one no longer counts. Reported, not measured here: over 512x512 the
norm was wrong on a Mali GPU until its means were cascaded (google-ai-edge/litert-samples, pull request 200).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from mobile_matting_export.graph.ops import AVG_POOL, CONV, argument, is_op, pair
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, insert_op, replace, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten

_MOST = 64
"""Numbers in one average. At a sum of 64 ones a half register still has four bits below one."""
_LONGEST = 8
"""Side of a window with both sides; 8x8 takes three steps at 256, 4x4 takes four."""


@dataclass(frozen=True)
class _Step:
    """Averages of ``window`` neighbours along one side; padded ones are weighted sums of ``cells`` / ``length``."""

    window: int
    padding: int = 0
    weight: float | None = None


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        axes = _averaged_axes(node)
        source = node.args[0] if axes else None
        if not isinstance(source, fx.Node):
            continue
        height, width = (shape(source)[axis] if axis in axes else 1 for axis in (2, 3))
        if height * width <= _MOST:
            continue
        if len(shape(node)) != 4:
            refusals.append(f"{describe(node)}: kept, it drops the axes that it averages")
            continue
        value = source
        for vertical, horizontal in _plan(height, width):
            value = _insert(graph_module, node, value, vertical, horizontal)
        replace(graph_module, node, value)
        changes += 1
    return Outcome(changes, tuple(refusals))


def _averaged_axes(node: fx.Node) -> set[int]:
    """Which of the axes 2 and 3 of a map the node averages whole, and nothing else; else none."""
    if not (is_op(node, aten.mean.dim, aten.adaptive_avg_pool2d.default)):
        return set()
    source = node.args[0]
    if not isinstance(source, fx.Node) or len(shape(source)) != 4:
        return set()
    if is_op(node, aten.adaptive_avg_pool2d.default):
        return {2, 3} if pair(node.args[1]) == (1, 1) else set()
    axes = {axis % 4 for axis in argument(node, 1, "dim") or range(4)}
    return axes if axes <= {2, 3} else set()


def _plan(height: int, width: int) -> list[tuple[_Step, _Step]]:
    """(vertical, horizontal) steps; two share an operator where the window stays small and nothing is padded."""
    rows, columns = _steps(height), _steps(width)
    plan = []
    while rows or columns:
        vertical = rows.pop(0) if rows else _Step(1)
        fits = columns and vertical.window * columns[0].window <= _MOST
        plain = columns and vertical.weight is None and columns[0].weight is None
        # with a window of one side only, whatever the other side needs can go along
        joined = columns and (vertical.window == 1 or (fits and plain))
        plan.append((vertical, columns.pop(0) if joined else _Step(1)))
    return plan


def _steps(length: int) -> list[_Step]:
    """Windows whose averages, one after the other, average ``length`` numbers."""
    if length == 1:
        return []
    window = next((k for k in range(_LONGEST, 1, -1) if length % k == 0), None)
    window = window or next((k for k in range(_LONGEST + 1, _MOST) if length % k == 0), None)
    if window is not None:
        return [_Step(window), *_steps(length // window)]
    return min((_padded_steps(length, window) for window in range(3, 16, 2)), key=len)


def _padded_steps(length: int, window: int) -> list[_Step]:
    """The first step by an odd ``window`` that does not divide ``length``, and what follows."""
    padding = next(p for p in range(window) if (length + 2 * p) % window == 0)
    cells = (length + 2 * padding) // window
    return [_Step(window, padding, cells / length), *_steps(cells)]


def _insert(graph_module: fx.GraphModule, node: fx.Node, value: fx.Node, vertical: _Step, horizontal: _Step) -> fx.Node:
    window = [vertical.window, horizontal.window]
    if vertical.weight is None and horizontal.weight is None:
        return insert_op(graph_module, node, AVG_POOL, value, window, window, like=node)
    channels = shape(node)[1]
    weights = torch.full((channels, 1, *window), (vertical.weight or 1) * (horizontal.weight or 1), dtype=torch.float64)
    kernel = add_constant(graph_module, weights, f"{node.name}_share", node)
    padding = [vertical.padding, horizontal.padding]
    return insert_op(graph_module, node, CONV, value, kernel, None, window, padding, [1, 1], channels, like=node)


CASCADE_MEANS = Rewrite(
    name="cascade_means",
    why="sums that half precision can hold: the mean over a map as small average pools, exact at every size",
    apply=_apply,
)
