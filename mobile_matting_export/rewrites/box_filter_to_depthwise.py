"""A padded average pool that counts the padding is a depthwise convolution with weights 1/k^2.

Finds: ``avg_pool2d`` with symmetric padding, count_include_pad, and no divisor of its own.
Refuses: ceil_mode (its last window is cut), and windows above 5x5 (k^2 weights cost more than they save).
Exact: yes (float32 rounding). Without it TFLite gets PAD + AVERAGE_POOL_2D, and the source of TensorFlow's
GPU delegate (``transformations/merge_padding_with.cc``) merges the two into a pool that divides by the
pixels inside the picture only: wrong at borders (read there, not measured on a device).
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import AVG_POOL, CONV, argument, is_op, pair
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, insert_op, replace, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

_LARGEST = 5


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, AVG_POOL) or pair(argument(node, 3, "padding", 0)) == (0, 0):
            continue
        if not argument(node, 5, "count_include_pad", True) or argument(node, 6, "divisor_override") is not None:
            continue  # the borders are averaged over fewer pixels: AVERAGE_POOL_2D does just that
        window = pair(node.args[1])
        if argument(node, 4, "ceil_mode", False) or max(window) > _LARGEST:
            refusals.append(f"{describe(node)}: kept, ceil_mode or a window above {_LARGEST}x{_LARGEST}")
            continue
        channels = shape(node)[1]
        weights = torch.full((channels, 1, *window), 1.0 / (window[0] * window[1]), dtype=torch.float64)
        kernel = add_constant(graph_module, weights, f"{node.name}_box", node)
        stride = list(pair(argument(node, 2, "stride") or window))
        padding = list(pair(argument(node, 3, "padding", 0)))
        args = (node.args[0], kernel, None, stride, padding, [1, 1], channels)
        replace(graph_module, node, insert_op(graph_module, node, CONV, *args, like=node))
        changes += 1
    return Outcome(changes, tuple(refusals))


BOX_FILTER_TO_DEPTHWISE = Rewrite(
    name="box_filter_to_depthwise",
    why="one operator with the right borders on every runtime",
    apply=_apply,
)
