"""A padded average pool that counts the padding is a depthwise convolution with weights 1/k^2, or two of 1/k.

1/(kh kw) over a window is 1/kh over its columns, then 1/kw over the rows of that; zeros beyond the border add nothing
in either. Whole or in two is decided by counted cost: k^2 against 2k multiply-accumulates and one more map to write.
Finds: ``avg_pool2d`` with symmetric padding, count_include_pad, and no divisor of its own.
Refuses: ceil_mode (its last window is cut).
Exact: yes (float32 rounding). Without it TFLite gets PAD + AVERAGE_POOL_2D, and the source of TensorFlow's
GPU delegate (``transformations/merge_padding_with.cc``) merges the two into a pool that divides by the
pixels inside the picture only: wrong at borders (read there, not measured on a device).
"""

from __future__ import annotations

import math

import torch
from torch import fx

from mobile_matting_export.graph.ops import AVG_POOL, CONV, argument, is_op, pair
from mobile_matting_export.graph.provenance import describe, module_path
from mobile_matting_export.graph.surgery import add_constant, insert_op, replace, shape
from mobile_matting_export.rewrites.rewrite import Decision, Outcome, Rewrite

# In multiply-accumulates of a depthwise convolution of few taps, XNNPACK, an x86 thread, 8 to 32 channels. PAD +
# AVERAGE_POOL_2D, whole, in two, for 16 channels of 128x128: 5x5 0.47, 0.46, 0.36 ms; 7x7 0.72, 8.1, 0.41; 15x15 2.3,
# 72, 1.2. 192x192 with stride 3, less than a pool of one pixel takes: 5x5 -0.19, 0.15, 0.15; 7x7 -0.26, -1.63, 0.08
_WRITTEN = 12  # an element that the second convolution reads
_FEW, _OF_MANY = 25, 8  # taps that are read at once; what one of more than these costs
_WHOLE, _IN_TWO = "whole", "columns, then rows"


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals, decisions = 0, [], []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, AVG_POOL) or pair(argument(node, 3, "padding", 0)) == (0, 0):
            continue
        if not argument(node, 5, "count_include_pad", True) or argument(node, 6, "divisor_override") is not None:
            continue  # the borders are averaged over fewer pixels: AVERAGE_POOL_2D does just that
        if argument(node, 4, "ceil_mode", False):
            refusals.append(f"{describe(node)}: kept, ceil_mode cuts its last window")
            continue
        decision = _decide(node)
        decisions.append(decision)
        result = node.args[0]
        for axes in ((0,), (1,)) if decision.taken == _IN_TWO else ((0, 1),):
            result = _average(graph_module, node, result, axes)
        replace(graph_module, node, result)
        changes += 1
    return Outcome(changes, tuple(refusals), tuple(decisions))


def _decide(node: fx.Node) -> Decision:
    rows, columns = pair(node.args[1])
    pixels = math.prod(shape(node))
    costs = [(_WHOLE, pixels * _taps(rows * columns))]
    if min(rows, columns) > 1:
        between = pixels * shape(node.args[0])[3] // shape(node)[3]  # the columns are averaged first
        costs.append((_IN_TWO, between * (_taps(rows) + _WRITTEN) + pixels * _taps(columns)))
    taken = min(costs, key=lambda cost: cost[1])[0]
    return Decision(module_path(node), tuple(costs), "multiply-accumulates of few taps", taken)


def _taps(number: int) -> float:
    return float(number if number <= _FEW else _OF_MANY * number)


def _average(graph_module: fx.GraphModule, pool: fx.Node, source: fx.Node, axes: tuple[int, ...]) -> fx.Node:
    """The pool's mean of ``source`` along ``axes`` only, 0 vertical and 1 horizontal."""
    channels, window = shape(pool)[1], pair(pool.args[1])
    steps, margin = pair(argument(pool, 2, "stride") or window), pair(argument(pool, 3, "padding", 0))
    along = {"box": window, "stride": steps, "padding": margin}
    idle = {"box": 1, "stride": 1, "padding": 0}
    box, stride, padding = ([along[part][axis] if axis in axes else idle[part] for axis in (0, 1)] for part in idle)
    weights = torch.full((channels, 1, *box), 1.0 / math.prod(box), dtype=torch.float64)
    kernel = add_constant(graph_module, weights, f"{pool.name}_box_{box[0]}x{box[1]}", pool)
    return insert_op(graph_module, pool, CONV, source, kernel, None, stride, padding, [1, 1], channels, like=pool)


BOX_FILTER_TO_DEPTHWISE = Rewrite(
    name="box_filter_to_depthwise",
    why="one operator with the right borders on every runtime",
    apply=_apply,
)
