"""Faster training steps on the CPU: convolution, batch norm and clamp as one step, parallel branches as one.

A matting network's training step is bound by memory traffic. Two things save most of it, and
neither changes what is computed:

- Parallel 1x1 convolutions of one input are one 1x1 convolution with more outputs; the depthwise
  convolutions behind them are one with a dilation for each group of channels; their concatenation is
  then already there.
- ``kernels/`` passes over a map while it is in the cache, not once for each operation. Measured on two cores, at
  256x256, in turns: 26.4 pictures a second instead of 14.9.

``fuse_units`` binds other ``forward`` functions to the blocks of an ``MMNet``; parameters, buffers and
their names stay, eval mode runs the network as it is written.
"""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.mmnet import EncoderBlock, MMNet, Unit

SOURCES = Path(__file__).parent / "kernels"

TOOLS = ("c++", "ninja")
"""What compiling the kernels takes."""

UNBOUNDED = 1e30  # a clamp that never clamps; the kernels are compiled for finite numbers only


@functools.cache
def kernels() -> ModuleType:
    """The compiled kernels; compiling needs ``TOOLS``, and half a minute the first time."""
    from torch.utils.cpp_extension import load

    return load(
        name="mmexport_fused_units",
        sources=[str(SOURCES / f"{name}.cpp") for name in ("bind", "pointwise", "depthwise")],
        extra_cflags=["-O3", "-march=native", "-ffast-math", "-fopenmp"],
    )


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        gamma, beta, eps, low, high = rest
        y, z, mean, variance = kernels().pointwise_forward(x, weight, gamma, beta, eps, low, high)
        ctx.save_for_backward(x, y, weight, gamma, beta, mean, variance)
        ctx.limits = eps, low, high
        ctx.mark_non_differentiable(mean, variance)
        return z, mean, variance

    @staticmethod
    def backward(ctx: Any, dz: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, y, weight, gamma, beta, mean, variance = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        grads = kernels().pointwise_backward(
            dz.contiguous(), x, y, weight, gamma, beta, mean, variance, *ctx.limits, wanted
        )
        return grads[0] if wanted else None, *grads[1:], None, None, None


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        gamma, beta, eps, low, high, dilations, stride = rest
        y, z, mean, variance = kernels().depthwise_forward(x, weight, dilations, stride, gamma, beta, eps, low, high)
        ctx.save_for_backward(x, y, weight, gamma, beta, mean, variance)
        ctx.limits, ctx.geometry = (eps, low, high), (dilations, stride)
        ctx.mark_non_differentiable(mean, variance)
        return z, mean, variance

    @staticmethod
    def backward(ctx: Any, dz: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, y, weight, gamma, beta, mean, variance = ctx.saved_tensors
        grads = kernels().depthwise_backward(
            dz.contiguous(), x, y, weight, *ctx.geometry, gamma, beta, mean, variance, *ctx.limits
        )
        return *grads, None, None, None, None, None


def run_units(units: list[Unit], x: torch.Tensor) -> torch.Tensor:
    """The concatenated results of parallel units of one kind, in training mode.

    1x1 units all see ``x`` (N x I x H x W); depthwise units see consecutive groups of its channels.
    The running statistics are updated as ``nn.BatchNorm2d`` does.
    """
    first = units[0]
    weight = torch.cat([u.conv.weight for u in units])
    gamma, beta = torch.cat([u.bn.weight for u in units]), torch.cat([u.bn.bias for u in units])
    limits = (first.bn.eps, 0.0, 6.0) if isinstance(first.act, nn.ReLU6) else (first.bn.eps, -UNBOUNDED, UNBOUNDED)
    if first.conv.groups > 1:
        dilations = [u.conv.dilation[0] for u in units for _ in range(u.conv.out_channels // 8)]
        taps = weight.flatten(1).t().contiguous()
        rows = x.permute(0, 2, 3, 1).contiguous()
        z, mean, variance = _Depthwise.apply(rows, taps, gamma, beta, *limits, dilations, first.conv.stride[0])
    else:
        rows = _patches(first, x) if first.conv.kernel_size[0] > 1 else x.permute(0, 2, 3, 1).contiguous()
        count, height, width, channels = rows.shape
        flat = rows.reshape(-1, channels)
        z, mean, variance = _Pointwise.apply(flat, weight.flatten(1), gamma, beta, *limits)
        z = z.view(count, height, width, -1)
    _update_statistics(units, mean, variance, z.numel() // z.shape[-1])
    return z.permute(0, 3, 1, 2)


def _patches(unit: Unit, x: torch.Tensor) -> torch.Tensor:
    """The windows of a dense strided 3x3 convolution, N x H/2 x W/2 x 9*I, in the order of its weights."""
    stride, kernel = unit.conv.stride[0], unit.conv.kernel_size[0]
    x = F.pad(x, (0, unit.pad_after, 0, unit.pad_after))
    windows = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3)


def _update_statistics(units: list[Unit], mean: torch.Tensor, variance: torch.Tensor, positions: int) -> None:
    with torch.no_grad():
        start = 0
        for unit in units:
            part = slice(start, start := start + unit.bn.num_features)
            unit.bn.running_mean.lerp_(mean[part], unit.bn.momentum)
            unit.bn.running_var.lerp_(variance[part] * (positions / (positions - 1)), unit.bn.momentum)
            unit.bn.num_batches_tracked += 1


def _unit_forward(unit: Unit, x: torch.Tensor) -> torch.Tensor:
    return run_units([unit], x) if unit.training else Unit.forward(unit, x)


def _block_forward(block: EncoderBlock, x: torch.Tensor) -> torch.Tensor:
    if not block.training:
        return EncoderBlock.forward(block, x)
    branches = [block.get_submodule(f"branch{i}") for i in range(block.branches)]
    x = run_units([b.pointwise_conv for b in branches], x)
    if isinstance(branches[0].depthwise_conv_stride, Unit):
        x = run_units([b.depthwise_conv_stride for b in branches], x)
    x = run_units([b.depthwise_conv_dilation for b in branches], x)
    return run_units([block.merge["pointwise_conv"]], x)


def fuse_units(net: MMNet) -> None:
    """Let ``net`` train with the fused steps, where there is a compiler for them; see the module."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"no {' and no '.join(missing)}: training goes on at half the speed", file=sys.stderr)
        return
    for module in net.modules():
        if isinstance(module, EncoderBlock):
            module.forward = functools.partial(_block_forward, module)
        elif isinstance(module, Unit):
            module.forward = functools.partial(_unit_forward, module)
