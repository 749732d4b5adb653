"""Runs a graph as a GPU in half precision would: every tensor rounded, sums kept in half registers.

What GPUs keep in half differs, so the arithmetic is an argument:

- Tensors between operators, weights and scalars are float16 everywhere: 11 bits, infinity above 65504.
- ``reductions`` says where mean, sum and average pooling add up. TensorFlow Lite's classic OpenCL kernels do it
  in float32 (``reduce.cc``, ``pooling.cc``); ML Drift, whose kernels are not public, is reported to
  overflow in sums (google-ai-edge/LiteRT, issue 9249) and to lose instance norms (google-ai-edge/litert-samples,
  pull request 200); ncnn's ``Reduction`` and fixed-window ``Pooling`` add in half (Vulkan shaders).
- ``convolutions``: half registers on the classic delegate in its default mode (``cl_operation.cc``).
- ``subnormals``: below 2^-14 some GPUs flush to zero; which do is not documented.

A half register is simulated step by step: a window is added along its rows, then the rows' sums are
added; a convolution adds four input channels of one tap at a time, as shaders with 4-vectors do.
A real GPU splits a large sum over threads and loses less by rounding, but overflows at the same total.
Everything else is computed in float32 and rounded once, which for + - * equals half arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx
from torch.nn import functional as F

from mobile_matting_export.graph.ops import ADD, AVG_POOL, CONV, INSTANCE_NORM, MUL, SUB, Conv, argument, pair

aten = torch.ops.aten

SMALLEST_NORMAL = 2.0**-14
"""The smallest positive float16 with full precision, 6.1e-5."""

Register = Literal["half", "single"]


@dataclass(frozen=True)
class HalfArithmetic:
    """Where a GPU in half precision adds up, and what it does with numbers below 2^-14."""

    reductions: Register
    convolutions: Register
    subnormals: Literal["kept", "flushed"]


ROUNDED = HalfArithmetic("single", "single", "kept")
"""Only what is stored is rounded: the kindest GPU there is."""
HALF_SUMS = HalfArithmetic("half", "single", "flushed")
"""Reductions in half, as reported of ML Drift; its convolutions are taken to be good."""
ALL_HALF = HalfArithmetic("half", "half", "flushed")
"""Nothing is kept in float32. Slow to simulate: a convolution becomes a pass per tap and four channels."""

_SCALAR_OPS = (ADD, SUB, MUL, aten.div.Tensor, aten.rsub.Scalar, aten.add.Scalar, aten.mul.Scalar, aten.sub.Scalar)
_MEANS = (aten.mean.dim, aten.sum.dim_IntList)


def simulate_fp16(
    graph_module: fx.GraphModule, inputs: Sequence[torch.Tensor], arithmetic: HalfArithmetic
) -> torch.Tensor:
    """The graph's result, float32 that holds float16 values, infinities and NaN as they come.

    Args:
        graph_module: a captured or rewritten graph (unchanged by this call).
        inputs: its positional inputs, float32 NCHW.
        arithmetic: the GPU, for example ``HALF_SUMS``.
    """
    with torch.no_grad():
        result: torch.Tensor = _HalfInterpreter(graph_module, arithmetic).run(*inputs)
    return result


def round_to_half(value: torch.Tensor, arithmetic: HalfArithmetic) -> torch.Tensor:
    """``value`` as a float16 tensor would hold it, as float32; integers stay."""
    if not value.is_floating_point():
        return value
    rounded = value.half().float()
    if arithmetic.subnormals == "flushed":
        rounded = torch.where(rounded.abs() < SMALLEST_NORMAL, torch.zeros_like(rounded), rounded)
    return rounded


class _HalfInterpreter(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule, arithmetic: HalfArithmetic) -> None:
        super().__init__(graph_module)
        self.arithmetic = arithmetic
        self._node: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self._node = n
        return fx.node.map_aggregate(super().run_node(n), self._rounded)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in _SCALAR_OPS:
            args = tuple(self._scalar(value) for value in args)
        half_sums = self.arithmetic.reductions == "half"
        if target is INSTANCE_NORM and args[3] is None:
            return self._instance_norm(*args)
        if target in _MEANS and half_sums:
            return self._reduced(target, args[0], args[1], bool(args[2]) if len(args) > 2 else False)
        if target is aten.adaptive_avg_pool2d.default and half_sums and pair(args[1]) == (1, 1):
            return self._mean(args[0], [2, 3])
        if target is AVG_POOL and half_sums:
            return self._pooled(args, kwargs)
        if target is CONV and self.arithmetic.convolutions == "half":
            return self._convolved(args)
        return super().call_function(target, args, kwargs)

    def _rounded(self, value: Any) -> Any:
        return round_to_half(value, self.arithmetic) if isinstance(value, torch.Tensor) else value

    def _scalar(self, value: Any) -> Any:
        return float(self._rounded(torch.tensor(value))) if isinstance(value, float) else value

    def _instance_norm(self, source: torch.Tensor, weight: Any, bias: Any, *rest: Any) -> torch.Tensor:
        """As a converter spells the layer: two means over the whole map."""
        centred = self._rounded(source - self._mean(source, [2, 3]))
        variance = self._mean(self._rounded(centred * centred), [2, 3])
        factor = self._rounded(torch.rsqrt(self._rounded(variance + self._scalar(rest[4]))))
        result = self._rounded(centred * factor)
        if weight is not None:
            result = self._rounded(result * weight.view(1, -1, 1, 1))
        return result if bias is None else result + bias.view(1, -1, 1, 1)

    def _mean(self, value: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        if self.arithmetic.reductions == "half":
            return self._rounded(self._reduced(aten.mean.dim, value, axes, True))
        return self._rounded(value.mean(tuple(axes), keepdim=True))

    def _reduced(self, target: Any, value: torch.Tensor, axes: Sequence[int], keep: bool) -> torch.Tensor:
        """The sum in a half register, along the last axis first, and for a mean divided only then."""
        positive = sorted({axis % value.dim() for axis in axes}, reverse=True)
        count = 1
        total = value
        for axis in positive:
            count *= value.shape[axis]
            total = self._summed(total, axis, total.shape[axis], total.shape[axis])
        result = total / count if target is aten.mean.dim else total
        return result if keep else result.squeeze(tuple(positive))

    def _summed(self, value: torch.Tensor, axis: int, window: int, stride: int) -> torch.Tensor:
        """Sums of ``window`` neighbours along ``axis``, one addition after the other."""
        length = (value.shape[axis] - window) // stride + 1
        total: torch.Tensor | None = None
        for first in range(window):
            index = torch.arange(first, first + (length - 1) * stride + 1, stride)
            term = value.index_select(axis, index)
            total = term if total is None else self._rounded(total + term)
        assert total is not None
        return total

    def _pooled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        assert self._node is not None
        plain = super().call_function(AVG_POOL, args, kwargs)
        window = pair(args[1])
        stride = pair(argument(self._node, 2, "stride", None) or window)
        padding = pair(argument(self._node, 3, "padding", 0))
        ones = torch.ones_like(args[0][:1, :1])
        shares = super().call_function(AVG_POOL, (ones, *args[1:]), kwargs)  # inside cells / divisor
        edges: list[int] = []
        for axis in (1, 0):
            needed = (plain.shape[2 + axis] - 1) * stride[axis] + window[axis]
            edges += [padding[axis], needed - args[0].shape[2 + axis] - padding[axis]]
        totals = []
        for part in (args[0], ones):
            rows = self._summed(F.pad(part, edges), 3, window[1], stride[1])
            totals.append(self._summed(rows, 2, window[0], stride[0]))
        return totals[0] / (totals[1] / shares)

    def _convolved(self, args: tuple[Any, ...]) -> torch.Tensor:
        assert self._node is not None
        conv = Conv.of(self._node)
        source, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None
        if isinstance(conv.padding, str):
            return F.conv2d(source, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        padded = F.pad(source, (conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0]))
        height, width = ((padded.shape[2 + a] - conv.dilation[a] * (weight.shape[2 + a] - 1) - 1) for a in (0, 1))
        groups, inside = conv.groups, weight.shape[1]
        total = torch.zeros(())
        for row in range(weight.shape[2]):
            for column in range(weight.shape[3]):
                top, left = row * conv.dilation[0], column * conv.dilation[1]
                seen = padded[:, :, top : top + height + 1 : conv.stride[0], left : left + width + 1 : conv.stride[1]]
                grouped = seen.unflatten(1, (groups, inside))
                for first in range(0, inside, 4):
                    four = slice(first, first + 4)
                    part = F.conv2d(
                        grouped[:, :, four].flatten(1, 2), weight[:, four, row, column, None, None], groups=groups
                    )
                    total = self._rounded(total + self._rounded(part))
        return total if bias is None else total + bias.view(1, -1, 1, 1)
