"""A convolution to one channel behind a narrow transposed one reads its phases; pixels are interleaved last.

Without its padding p, a transposed convolution of stride s makes f[s*i + r] = sum over t of x[i - t] * w[s*t + r]
for each phase 0 <= r < s: one plain convolution to s*s times the channels, on the small map. The convolution behind,
of kernel k and padding q <= p, makes out[s*i + a] = sum over t of v[t] * f[s*i + a + t + p - q]: tap t reads phase
(a + t + p - q) mod s of the pixel (a + t + p - q) div s further, so that its s outputs per axis are
another plain convolution of the phases, without padding. What p cuts from f is padding for the second convolution,
zeros: two stored maps of ones and zeros, one a row and one a column, clear it. ``pixel_shuffle`` interleaves the s*s
results; an activation behind comes after it, in vectors. For kernel 4, stride 2, padding 1 and a 3x3 convolution
with padding 1 both become 2x2 ones, and the large map, of few channels that fill no vector, is never written.
Where the phases fill one vector of 8, the result gets 8 channels, too, zeros that are sliced off: from 8 to 4 channels
ncnn has slow kernels only.
Measured in ncnn, one x86 thread, AVX-512, on 112x112 with sigmoid, 2 and 4 channels between: 0.37 and 0.61 of the
time (2 channels, the result not filled up: 0.42); 8 to 32 channels 0.71 to 1.15. In the first form the sigmoid, fused
behind one channel, is computed number by number.
Finds: a dense convolution to one channel, stride 1, no dilation, that alone reads a dense transposed one of at most
four channels, the same stride of 2 or more on both axes, no dilation.
Refuses: more channels, sizes where rows or columns of the phases would be left over, computed weights.
Exact: yes (float32 rounding; borders included).
For ncnn on CPUs: TFLite keeps DEPTH_TO_SPACE between the two; neither there nor on GPUs was this measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import fx
from torch.nn import functional as F

from mobile_matting_export.graph.ops import CONV, DECONV, MUL, PIXEL_SHUFFLE, SLICE, Conv, is_op, only_user
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, keep_channels, replace, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

_MOST_BETWEEN = 4
_VECTOR = 8  # channels that are computed together


@dataclass(frozen=True)
class _Axis:
    """Both convolutions along one axis: lengths of the two inputs and the result, kernels, paddings."""

    stride: int
    small: int
    between: int
    large: int
    kernel: int
    cut: int
    second: int
    padding: int

    @property
    def taps(self) -> int:
        """Of the first plain convolution, whose padding is one less."""
        return math.ceil(self.kernel / self.stride)

    @property
    def blocks(self) -> int:
        """Pixels of the phases."""
        return self.small + self.taps - 1

    @property
    def shift(self) -> int:
        """Where the first result begins to read."""
        return self.cut - self.padding

    @property
    def reach(self) -> int:
        """Taps of the second plain convolution."""
        return (self.stride - 1 + self.second - 1 + self.shift) // self.stride + 1

    @property
    def fits(self) -> bool:
        """Whether the phases give the results, no more and no less."""
        holds = self.cut + self.between <= self.stride * self.blocks  # output padding may go further
        return holds and self.shift >= 0 and self.stride * (self.blocks - self.reach + 1) == self.large

    def mask(self) -> torch.Tensor:
        """Stride x blocks: one where the transposed convolution keeps its result, else zero."""
        kept = torch.zeros(self.stride * self.blocks)
        kept[self.cut : self.cut + self.between] = 1
        return kept.view(self.blocks, self.stride).T


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, CONV) or not is_op(first := node.args[0], DECONV) or shape(node)[1] != 1:
            continue
        if (obstacle := _obstacle(graph_module, first, node)) is not None:
            refusals.append(f"{describe(node)}: reads the pixels of {describe(first)}, not its phases, {obstacle}")
            continue
        _spell(graph_module, first, node)
        changes += 1
    return Outcome(changes, tuple(refusals))


def _obstacle(graph_module: fx.GraphModule, first: fx.Node, node: fx.Node) -> str | None:
    transposed, conv = Conv.of(first), Conv.of(node)
    parts = (transposed.weight, transposed.bias, conv.weight, conv.bias)
    if any(part is not None and constant(graph_module, part) is None for part in parts):
        return "a weight or bias is computed"
    if only_user(first) is not node:
        return "which are read elsewhere"
    if transposed.groups != 1 or conv.groups != 1:
        return "one of them has groups"
    if transposed.dilation != (1, 1) or conv.dilation != (1, 1) or conv.stride != (1, 1):
        return "one of them has a dilation, or the second one a stride"
    if transposed.stride[0] != transposed.stride[1] or transposed.stride[0] < 2:
        return f"its stride is {transposed.stride}"
    if shape(first)[1] > _MOST_BETWEEN:
        return f"it has {shape(first)[1]} channels, more than {_MOST_BETWEEN}"
    if isinstance(conv.padding, str) or not all(axis.fits for axis in _axes(first, node)):
        return "which do not fit the result's size"
    return None


def _axes(first: fx.Node, node: fx.Node) -> tuple[_Axis, _Axis]:
    transposed, conv = Conv.of(first), Conv.of(node)

    def axis(number: int) -> _Axis:
        return _Axis(
            transposed.stride[number],
            shape(transposed.input)[2 + number],
            shape(first)[2 + number],
            shape(node)[2 + number],
            shape(transposed.weight)[2 + number],
            int(transposed.padding[number]),
            shape(conv.weight)[2 + number],
            int(conv.padding[number]),
        )

    return axis(0), axis(1)


def _spell(graph_module: fx.GraphModule, first: fx.Node, node: fx.Node) -> None:
    transposed, conv = Conv.of(first), Conv.of(node)
    rows, columns = _axes(first, node)
    block, channels = rows.stride, shape(first)[1]

    def store(numbers: torch.Tensor | None, hint: str) -> fx.Node | None:
        return None if numbers is None else add_constant(graph_module, numbers, f"{node.name}_{hint}", node)

    def convolve(source: fx.Node, weight: torch.Tensor, bias: torch.Tensor | None, padding: list[int]) -> fx.Node:
        args = (source, store(weight, "phases"), store(bias, "shift"), [1, 1], padding, [1, 1], 1)
        return insert_op(graph_module, node, CONV, *args, like=node)

    weight, bias = constant(graph_module, transposed.weight), constant(graph_module, transposed.bias)
    assert weight is not None
    shift = None if bias is None else bias.repeat_interleave(block**2)
    phases = convolve(transposed.input, _make_phases(weight, block), shift, [rows.taps - 1, columns.taps - 1])
    down = rows.mask().view(1, block, 1, -1, 1).expand(channels, -1, block, -1, -1)
    right = columns.mask().view(1, 1, block, 1, -1).expand(channels, block, -1, -1, -1)
    for mask in (down, right):
        if not bool(mask.all()):
            phases = insert_op(graph_module, node, MUL, phases, store(mask.flatten(0, 2)[None], "mask"), like=node)
    weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
    assert weight is not None
    read, shift = _read_phases(weight, rows, columns), None if bias is None else bias.repeat_interleave(block**2)
    missing = _VECTOR - block**2 if channels * block**2 == _VECTOR else 0
    if missing > 0:
        read = torch.cat([read, torch.zeros_like(read[:1]).expand(missing, -1, -1, -1)])
        shift = None if shift is None else F.pad(shift, (0, missing))
    result = convolve(phases, read, shift, [0, 0])
    if missing > 0:
        keep_channels(result)
        result = insert_op(graph_module, node, SLICE, result, 1, 0, block**2, like=node)
    replace(graph_module, node, insert_op(graph_module, node, PIXEL_SHUFFLE, result, block, like=node))


def _make_phases(weight: torch.Tensor, block: int) -> torch.Tensor:
    """Inputs x channels x kh x kw to (channel, row, column) x inputs x ceil(kh/block) x ceil(kw/block)."""
    inputs, channels, height, width = weight.shape
    filled = F.pad(weight, (0, -width % block, 0, -height % block))
    taps = filled.view(inputs, channels, filled.shape[2] // block, block, filled.shape[3] // block, block)
    # a convolution reads x[i + t], not x[i - t]
    return taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).flip(2, 3)


def _read_phases(weight: torch.Tensor, rows: _Axis, columns: _Axis) -> torch.Tensor:
    """1 x channels x k x k to (row, column) x (channel, row, column) x reach x reach."""
    block, channels = rows.stride, weight.shape[1]
    result = weight.new_zeros(block, block, channels, block, block, rows.reach, columns.reach)
    for a in range(block):
        for b in range(block):
            for row in range(rows.second):
                further, p = divmod(a + row + rows.shift, block)
                for column in range(columns.second):
                    right, q = divmod(b + column + columns.shift, block)
                    result[a, b, :, p, q, further, right] = weight[0, :, row, column]
    return result.flatten(2, 4).flatten(0, 1)


CONVOLVE_PHASES = Rewrite(
    name="convolve_phases",
    why="maps of one or two channels at full size fill no vector of a CPU: phases at half the size do",
    apply=_apply,
)
