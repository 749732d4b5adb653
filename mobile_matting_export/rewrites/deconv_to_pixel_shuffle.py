"""A dense transposed convolution becomes a 3x3 one on the small map, whose channels become pixels.

For stride s and padding p, out[s*i + r] = sum over t of x[i - t] * w[s*t + r + p], for each phase 0 <= r < s. Where
no t is beyond -1 and 1, one 3x3 convolution with padding 1 and s*s times the outputs computes every phase,
``pixel_shuffle`` interleaves them, and nothing is cropped. For kernel 4, stride 2, padding 1 each phase has
four weights and five zeros; ncnn's Winograd algorithm, which it lacks for transposed convolutions, makes up for them.
Finds: transposed convolutions with one group, the same stride of 2 or more on both axes, no dilation, whose results
are stride times as large as what they read and look one pixel further on both axes.
Refuses: what is counted cheaper as it is (``_decide``): many inputs, and small maps, which fill no tiles.
Exact: yes (float32 rounding; borders included).
Measured in ncnn, one x86 thread, AVX-512, kernel 4, stride 2, against the row without it, in turns: trained
portraitnet_video 0.98 of the time (2 places; 10 processes, standard error 0.006), unpruned portraitnet 0.96 (2 places;
6 processes, 0.006); a single process may be off by 0.03. 56 single places, the L2 cache cleared before each, 8 to 64
channels, 14x14 to 56x56: the 22 that it takes 0.73 to 1.10, 0.91 in the mean; what is above 1.03 has 16 inputs and 8
outputs. Other kernels and strides were not timed, nor were phones.
For ncnn on CPUs: TFLite has DEPTH_TO_SPACE and no such algorithm.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from mobile_matting_export.graph.deconv_phases import why_no_phases
from mobile_matting_export.graph.ops import CONV, DECONV, PIXEL_SHUFFLE, Conv, is_op
from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, shape
from mobile_matting_export.rewrites.rewrite import Decision, Form, Outcome, Rewrite, spell_where_cheaper

# nanoseconds, one x86 thread, AVX-512, of layers inside portraitnet and portraitnet_video: alone, with caches that
# still hold its weights, the 3x3 convolution takes 0.7 of this
_TRANSPOSED = 0.020  # a multiply-accumulate of a transposed convolution
_SCATTERED = 0.8  # a result of one
_WINOGRAD = 0.0088  # a multiply-accumulate of a 3x3 convolution, on whole tiles of results
_TILE = 6
_MOVED = 0.6  # an element that pixel_shuffle moves
_KEPT, _SPELT, _UNIT = "transposed convolution", "pixel shuffle", "nanoseconds of ncnn on one x86 thread"


def _apply(graph_module: fx.GraphModule) -> Outcome:
    form = Form(_SPELT, _obstacle, _decide, _spell)
    nodes = [node for node in graph_module.graph.nodes if is_op(node, DECONV)]
    return spell_where_cheaper(graph_module, nodes, form, "stays a transposed convolution")


def _obstacle(graph_module: fx.GraphModule, node: fx.Node) -> str | None:
    if (reason := why_no_phases(graph_module, node)) is not None:
        return reason
    conv = Conv.of(node)
    stride, weight = conv.stride[0], constant(graph_module, conv.weight)
    assert weight is not None
    if shape(node)[2:] != tuple(stride * side for side in shape(conv.input)[2:]):
        return f"its result is not {stride} times its input"
    reach = [_reach(weight.shape[2 + axis], int(conv.padding[axis]), stride) for axis in (0, 1)]
    if reach != [1, 1]:
        return f"its results read {' and '.join(map(str, reach))} pixels further down and right, not one"
    return None


def _reach(kernel: int, cut: int, stride: int) -> int:
    """Pixels that a result reads beyond its own, on the side where it reads more."""
    return max((kernel - 1 - cut) // stride, -((-cut) // stride))


def _decide(node: fx.Node) -> Decision:
    """What both forms cost."""
    conv = Conv.of(node)
    inputs, outputs, *kernel = shape(conv.weight)
    small, results = shape(conv.input)[2:], math.prod(shape(node)[1:])
    transposed = _TRANSPOSED * math.prod(small) * math.prod(kernel) * inputs * outputs + _SCATTERED * results
    tiled = math.prod(math.ceil(side / _TILE) * _TILE for side in small)
    plain = _WINOGRAD * tiled * 9 * inputs * outputs * conv.stride[0] ** 2 + _MOVED * results
    costs = ((_KEPT, transposed), (_SPELT, plain))
    return Decision(module_path(node), costs, _UNIT, _SPELT if plain < transposed else _KEPT)


def _spell(graph_module: fx.GraphModule, node: fx.Node) -> None:
    conv = Conv.of(node)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None and not isinstance(conv.padding, str)
    block = conv.stride[0]
    stored = add_constant(graph_module, _phases(weight, block, conv.padding), f"{node.name}_phases", node)
    shift = None
    if bias is not None:
        shift = add_constant(graph_module, bias.repeat_interleave(block**2), f"{node.name}_shift", node)
    small = insert_op(graph_module, node, CONV, conv.input, stored, shift, [1, 1], [1, 1], [1, 1], 1, like=node)
    replace(graph_module, node, insert_op(graph_module, node, PIXEL_SHUFFLE, small, block, like=node))


def _phases(weight: torch.Tensor, block: int, padding: tuple[int, int]) -> torch.Tensor:
    """Inputs x outputs x kh x kw to (output, row, column) x inputs x 3 x 3."""
    inputs, outputs, height, width = weight.shape
    phases = weight.new_zeros(outputs, block, block, inputs, 3, 3)
    for row in range(height):
        down, a = divmod(row - padding[0], block)
        for column in range(width):
            right, b = divmod(column - padding[1], block)
            # a convolution reads x[i + t], not x[i - t]
            phases[:, a, b, :, 1 - down, 1 - right] = weight[:, :, row, column].T
    return phases.flatten(0, 2)


DECONV_TO_PIXEL_SHUFFLE = Rewrite(
    name="deconv_to_pixel_shuffle",
    why="ncnn computes 3x3 convolutions by Winograd's algorithm, transposed ones without",
    apply=_apply,
)
