"""Maps get channels of zeros until their number fills the vectors that the runtime computes in.

ncnn keeps 4, 8 or 16 channels of a pixel together where their number is a multiple, else one, and its kernels for
one are the slow ones: what dead channels leave (65 of 96) computes no faster than what was there. A row of
zeros in a convolution makes such a channel, a column of zeros in the next one ignores it, and what lies
between keeps it finite.
Finds: maps of more than one channel that convolutions make; they get the next multiple of 4, above 4 the
next of ``multiple``.
Leaves what ncnn takes as it is: matrix products read and write any number of channels at full speed, and zeros would
only be multiplied. Those are its 1x1 convolutions, and of more than 16 outputs those with a stride. Measured one x86
thread, AVX-512, 17 to 33 channels as they are over the next multiple of 8: 0.86 to 0.99 of the time; 11 and 13
channels 1.02; behind a 3x3 convolution of stride 1 0.94 to 1.07 (17 to 33), of stride 2 1.42 (13). All of trained
portraitnet_video, where it is one map of 17: 0.98 (100 rounds in turns, interval 0.97 to 0.99).
Refuses: what the output, an operator that is not understood, a slice, or groups of several channels read
or write; divisions and roots, which make infinities of zeros; parts of what is joined to no multiple of 4.
Exact: yes (zeros are added; a backend may order the sums differently).
For ncnn: XNNPACK computes any number of channels in the same kernels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import Role, is_map, maps_read, role_of, vectors_of
from mobile_matting_export.graph.channel_widths import Widths
from mobile_matting_export.graph.ops import CONV, Conv, is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, keep_channels, set_args, shape
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

_SMALLEST = 4  # channels that every processor with vectors takes together
_MOST_DIRECT = 16  # outputs up to which ncnn computes a kernel larger than 1x1 without a matrix product


def round_up_channels(multiple: int) -> Rewrite:
    """The rewrite for vectors of ``multiple`` channels: 4, 8 (phones in half precision), or 16."""
    return Rewrite(
        name=f"round_up_channels_to_{multiple}",
        why="kernels that compute several channels at once want whole vectors of them",
        apply=functools.partial(_apply, multiple),
    )


def _apply(multiple: int, graph_module: fx.GraphModule) -> Outcome:
    def wanted(channels: int) -> int:
        step = 1 if channels == 1 else _SMALLEST if channels <= _SMALLEST else multiple
        return -(-channels // step) * step

    grower = _Grower(graph_module, Widths(graph_module, wanted, _SMALLEST, functools.partial(_contented, graph_module)))
    changes = sum(grower.grow(node) for node in grower.roles)
    refusals = [
        f"{describe(node)}: keeps its {shape(node)[1]} channels, {grower.widths.fixed[grower.widths.of(node)]}"
        for node, role in grower.roles.items()
        if role is Role.DENSE
        and grower.widths.of(node) in grower.widths.fixed
        and wanted(shape(node)[1]) != shape(node)[1]
    ]
    return Outcome(changes, tuple(refusals))


def _contented(graph_module: fx.GraphModule, maps: Sequence[fx.Node]) -> str | None:
    """The reason not to fill up a family of maps between matrix products; None where something else touches it."""

    def is_activation(node: fx.Node) -> bool:
        role = role_of(graph_module, node)
        return role is Role.POINTWISE and len(maps_read(node, role)) == 1

    readers = {user for node in maps for user in node.users} - set(maps)
    written = all(is_activation(node) or _is_product(node, strided=True) for node in maps)
    read = all(_is_product(user, strided=False) for user in readers)
    if shape(maps[0])[1] <= _MOST_DIRECT or not written or not read:
        return None
    return "only matrix products write and read them, which take any number"


def _is_product(node: fx.Node, strided: bool) -> bool:
    """Whether ncnn computes ``node`` as a matrix product: a 1x1 kernel, or of many outputs a ``strided`` one."""
    if not is_op(node, CONV) or Conv.of(node).groups != 1:
        return False
    return shape(Conv.of(node).weight)[2:] == (1, 1) or (strided and min(Conv.of(node).stride) > 1)


class _Grower:
    """Gives every map that grows its zeros; counts the convolutions that make them."""

    def __init__(self, graph_module: fx.GraphModule, widths: Widths) -> None:
        self.graph_module, self.widths = graph_module, widths
        maps = [node for node in graph_module.graph.nodes if is_map(node)]
        self.layouts = {node: widths.layout(node) for node in maps}
        self.grows = {node: len(layout) > shape(node)[1] for node, layout in self.layouts.items()}
        self.roles = {node: role_of(graph_module, node) for node in maps if node.op == "call_function"}
        self.stored: dict[tuple[object, ...], fx.Node] = {}

    def grow(self, node: fx.Node) -> bool:
        """Make ``node`` fit what it reads; whether it brings in zeros."""
        role = self.roles[node]
        sources = maps_read(node, role)
        if not any(self.grows.get(part, False) for part in (node, *sources)):
            return False
        if role in (Role.DENSE, Role.DEPTHWISE):
            set_args(self.graph_module, node, self._grow_convolution(node, role))
            if role is Role.DENSE and self.grows[node]:
                keep_channels(node)
                return True
        elif role is Role.CAT:
            set_args(self.graph_module, node, node.args)  # its parts have grown
        elif role in (Role.POINTWISE, Role.SPATIAL):
            args = list(node.args)
            for position, part in enumerate(args):
                if position in vectors_of(node) or (part in sources and part.op == "get_attr"):
                    args[position] = self._grow_numbers(node, part)
            set_args(self.graph_module, node, tuple(args))
        return False

    def _grow_numbers(self, node: fx.Node, part: fx.Node) -> fx.Node:
        """Stored numbers, one a channel of ``node``, or one for all."""
        numbers = constant(self.graph_module, part)
        axis = 0 if numbers is None or numbers.dim() == 1 else 1
        if numbers is None or numbers.shape[axis] == 1:
            return part
        return self._store(_spread(numbers, self.layouts[node], axis), part, node)

    def _grow_convolution(self, node: fx.Node, role: Role) -> tuple[object, ...]:
        conv = Conv.of(node)
        outputs, inputs = self.layouts[node], self.layouts[conv.input]
        weight, bias = constant(self.graph_module, conv.weight), constant(self.graph_module, conv.bias)
        assert weight is not None
        rows, columns = (outputs, inputs) if node.target is CONV else (inputs, outputs)
        weight = _spread(weight, rows, 0)
        if role is Role.DENSE:
            weight = _spread(weight, columns, 1)
        if bias is not None and conv.bias is not None and self.grows[node]:
            conv = dataclasses.replace(conv, bias=self._store(_spread(bias, outputs, 0), conv.bias, node))
        groups = 1 if role is Role.DENSE else len(inputs)
        changed = dataclasses.replace(conv, weight=self._store(weight, conv.weight, node), groups=groups)
        return changed.args_for(node.target)

    def _store(self, numbers: torch.Tensor, origin: fx.Node, before: fx.Node) -> fx.Node:
        """A constant; readers that shared ``origin`` go on sharing what became of it."""
        key = (origin, tuple(numbers.shape), numbers.numpy().tobytes())
        if key not in self.stored:
            self.stored[key] = add_constant(self.graph_module, numbers, f"{origin.name}_rounded_up", before)
        return self.stored[key]


def _spread(numbers: torch.Tensor, layout: torch.Tensor, axis: int) -> torch.Tensor:
    """Numbers by old channel along ``axis`` to the new channels, zeros where there was none."""
    sides = [1] * numbers.dim()
    sides[axis] = -1
    return numbers.index_select(axis, layout.clamp(min=0)) * (layout >= 0).view(sides)


# phones take 8 channels together in half precision, 4 in float32
ROUND_UP_CHANNELS = round_up_channels(8)
