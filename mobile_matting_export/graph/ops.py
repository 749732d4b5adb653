"""Reading operators: targets by name, arguments with their defaults, neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mobile_matting_export.graph.surgery import shape

aten = torch.ops.aten

CONV = aten.conv2d.default
DECONV = aten.conv_transpose2d.input
BATCH_NORM = aten.batch_norm.default
INSTANCE_NORM = aten.instance_norm.default
CAT = aten.cat.default
ADD = aten.add.Tensor
SUB = aten.sub.Tensor
MUL = aten.mul.Tensor
SLICE = aten.slice.Tensor
SIGMOID = aten.sigmoid.default
SOFTMAX = aten.softmax.int
AVG_POOL = aten.avg_pool2d.default
BILINEAR = aten.upsample_bilinear2d.vec
NEAREST = aten.upsample_nearest2d.vec
PIXEL_SHUFFLE = aten.pixel_shuffle.default
RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)


def is_op(node: Any, *targets: Any) -> bool:
    """Whether ``node`` is a call of one of ``targets``."""
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument given by position or by name, else ``default``."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def pair(value: Any) -> tuple[int, int]:
    """A size argument of one or two numbers as (vertical, horizontal)."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    return (int(numbers[0]), int(numbers[-1]))


def only_user(node: fx.Node) -> fx.Node | None:
    """The single reader of ``node``, or None when there are several or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


@dataclass(frozen=True)
class Conv:
    """Arguments of a 2-D convolution or transposed convolution, defaults filled in."""

    input: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int
    output_padding: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, node: fx.Node) -> Conv:
        """Read a ``CONV`` or ``DECONV`` node."""
        get = node.args.__getitem__
        size = len(node.args)
        padding = get(4) if size > 4 else 0
        common = (get(0), get(1), get(2) if size > 2 else None, pair(get(3) if size > 3 else 1))
        if node.target is CONV:
            text_or_pair = padding if isinstance(padding, str) else pair(padding)
            dilation, groups = pair(get(5) if size > 5 else 1), get(6) if size > 6 else 1
            return cls(*common, text_or_pair, dilation, groups)  # type: ignore[arg-type]
        output_padding, groups = pair(get(5) if size > 5 else 0), get(6) if size > 6 else 1
        dilation = pair(get(7) if size > 7 else 1)
        return cls(*common, pair(padding), dilation, groups, output_padding)  # type: ignore[arg-type]

    def args_for(self, target: Any) -> tuple[Any, ...]:
        """Positional arguments of a new node of ``target`` with these settings."""
        head = (self.input, self.weight, self.bias, list(self.stride))
        padding = self.padding if isinstance(self.padding, str) else list(self.padding)
        if target is CONV:
            return (*head, padding, list(self.dilation), self.groups)
        return (*head, padding, list(self.output_padding), self.groups, list(self.dilation))


def channel_slice(node: fx.Node) -> tuple[int, int] | None:
    """(first, end) when ``node`` takes a contiguous range of channels of its input, else None.

    Understands ``aten.slice`` on axis 1 with step 1, and ``getitem`` of ``aten.split``.
    """
    if is_op(node, SLICE):
        axis, start, end, step = (
            argument(node, 1, "dim", 0),
            argument(node, 2, "start", 0) or 0,
            argument(node, 3, "end"),
            argument(node, 4, "step", 1),
        )
        channels = shape(node.args[0])[1]  # type: ignore[arg-type]
        if axis not in (1, 1 - len(shape(node))) or step != 1:
            return None
        start = start + channels if start < 0 else min(start, channels)
        end = channels if end is None else (end + channels if end < 0 else min(end, channels))
        return (start, end)
    if node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem":
        source = node.args[0]
        if is_op(source, aten.split.Tensor, aten.split_with_sizes.default) and argument(source, 2, "dim", 0) == 1:  # type: ignore[arg-type]
            widths = [part[1] for part in source.meta["shape"]]  # type: ignore[union-attr]
            index = int(node.args[1])  # type: ignore[call-overload, arg-type]
            return (sum(widths[:index]), sum(widths[: index + 1]))
    return None
