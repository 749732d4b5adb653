"""A dense transposed convolution becomes a plain one on the small map, whose channels become pixels.

Without padding, out[s*i + r] = sum over t of x[i - t] * w[s*t + r], for stride s and 0 <= r < s: each of the
s*s phases of the output is a convolution of ceil(k/s) taps a side that reads the same pixels as the
others. One convolution with s*s times the outputs computes them all, DEPTH_TO_SPACE interleaves them,
and the p rows and columns that padding cuts are cropped. For kernel 4, stride 2, padding 1 that is
a 2x2 convolution with padding 1: the same weights, and no multiplication more but for one row and column.
Finds: transposed convolutions with one group, the same stride of 2 or more on both axes, no dilation.
Refuses: what is counted cheaper as it is (``_decide``): few inputs, whose outputs cost more to move than to compute.
Exact: yes (float32 rounding; borders included).
Only for TFLite: ncnn and ONNX keep the transposed convolution.
"""

from __future__ import annotations

import math

import torch
from torch import fx
from torch.nn import functional as F

from mobile_matting_export.graph.deconv_phases import why_no_phases
from mobile_matting_export.graph.ops import CONV, DECONV, Conv, is_op
from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, shape
from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE
from mobile_matting_export.rewrites.rewrite import Decision, Form, Outcome, Rewrite, spell_where_cheaper

# in multiply-accumulates of a plain convolution that take as long. XNNPACK, an x86 thread, AVX-512, kernel 4, stride 2:
# 33 to 42 a nanosecond plain (32 to 96 inputs), 24 to 27 transposed (32 to 96 outputs; 8 took as long as 16)
_TRANSPOSED = 1.6  # one of a transposed convolution, whose outputs are computed _TOGETHER
_TOGETHER = 32
_MOVED = 11  # an element that DEPTH_TO_SPACE or a crop moves
_PLAIN, _UNIT = "depth to space", "multiply-accumulates of a plain convolution"


def _apply(graph_module: fx.GraphModule) -> Outcome:
    form = Form(_PLAIN, why_no_phases, _decide, _spell)
    nodes = [node for node in graph_module.graph.nodes if is_op(node, DECONV)]
    return spell_where_cheaper(graph_module, nodes, form, "stays a transposed convolution")


def _decide(node: fx.Node) -> Decision:
    """What both forms cost."""
    conv = Conv.of(node)
    inputs, outputs, *kernel = shape(conv.weight)
    block, pixels = conv.stride[0], math.prod(shape(conv.input)[2:])
    transposed = _TRANSPOSED * pixels * math.prod(kernel) * inputs * math.ceil(outputs / _TOGETHER) * _TOGETHER
    taps = [math.ceil(side / block) for side in kernel]
    small = math.prod(side + tap - 1 for side, tap in zip(shape(conv.input)[2:], taps, strict=True))
    moved = outputs * block**2 * small + (math.prod(shape(node)) if any(conv.padding) else 0)  # type: ignore[arg-type]
    plain = small * math.prod(taps) * inputs * outputs * block**2 + _MOVED * moved
    costs = (("transposed convolution", transposed), (_PLAIN, plain))
    return Decision(module_path(node), costs, _UNIT, _PLAIN if plain < transposed else "transposed convolution")


def _spell(graph_module: fx.GraphModule, node: fx.Node) -> None:
    conv = Conv.of(node)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None and not isinstance(conv.padding, str)
    block = conv.stride[0]
    phases = _phases(weight, block)
    stored = add_constant(graph_module, phases, f"{node.name}_phases", node)
    shift = None if bias is None else add_constant(graph_module, bias.repeat(block**2), f"{node.name}_shift", node)
    reach = [side - 1 for side in phases.shape[2:]]
    small = insert_op(graph_module, node, CONV, conv.input, stored, shift, [1, 1], reach, [1, 1], 1, like=node)
    result = insert_op(graph_module, node, DEPTH_TO_SPACE, small, block, like=node)
    if shape(result) != shape(node):
        result = insert_op(graph_module, node, CROP, result, *conv.padding, *shape(node)[2:], like=node)
    replace(graph_module, node, result)


def _phases(weight: torch.Tensor, block: int) -> torch.Tensor:
    """Inputs x outputs x kh x kw to (row, column, output) x inputs x ceil(kh/block) x ceil(kw/block)."""
    inputs, outputs, height, width = weight.shape
    filled = F.pad(weight, (0, -width % block, 0, -height % block))
    taps = filled.view(inputs, outputs, filled.shape[2] // block, block, filled.shape[3] // block, block)
    # a convolution reads x[i + t], not x[i - t]
    return taps.permute(3, 5, 1, 0, 2, 4).flatten(0, 2).flip(2, 3)


DECONV_TO_DEPTH_TO_SPACE = Rewrite(
    name="deconv_to_depth_to_space",
    why="a plain convolution runs at twice the speed, and takes the activation behind, which GPUs refuse on the other",
    apply=_apply,
)
