"""Which channels of a graph are constant, and which are needed: an analysis, it edits nothing.

Forward, a channel is constant when every pixel has the same value whatever the input: a bias behind
weights that are zero or meet constants only, and what follows from it. Where zeros are padded, other
constants end, except in a window or a kernel that ignores the padding. Backward, channels that only
come and go together share a slot (both sides of a sum, a depthwise convolution and what it reads), and
a slot is needed when the output, an operator that is not understood, or a weight that is not zero on the
way to a needed slot reads it. A convolution does not need a constant that its bias can take over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import MAX_POOL, PADS, Role, is_map, maps_read, role_of
from mobile_matting_export.graph.ops import (
    AVG_POOL,
    CONV,
    INSTANCE_NORM,
    MUL,
    Conv,
    argument,
    channel_slice,
    is_op,
    pair,
)
from mobile_matting_export.graph.surgery import constant, keeps_channels, shape


@dataclass(frozen=True)
class Channels:
    """What is known of every map's channels.

    ``values``: float64, one number a channel, NaN where it varies. ``slots``: one slot number a
    channel. ``ranges``: first and end channel that a ``Role.RANGE`` takes. ``needed``: by slot.
    """

    roles: dict[fx.Node, Role]
    values: dict[fx.Node, torch.Tensor]
    slots: dict[fx.Node, torch.Tensor]
    ranges: dict[fx.Node, tuple[int, int]]
    needed: torch.Tensor

    @property
    def unneeded(self) -> int:
        """How many slots could go."""
        return int((~self.needed).sum())

    def kept(self, node: fx.Node) -> torch.Tensor:
        """True for each channel of ``node`` that has to stay."""
        return self.needed[self.slots[node]]

    def is_constant(self, node: fx.Node) -> bool:
        """Whether all channels of ``node`` are constant."""
        return node in self.values and not bool(self.values[node].isnan().any())

    def adopt(self, new: fx.Node, old: fx.Node) -> None:
        """``new`` is to take the place of ``old``, with the same channels."""
        self.roles[new], self.slots[new], self.values[new] = self.roles[old], self.slots[old], self.values[old]


@dataclass(frozen=True)
class Links:
    """How the outputs of a convolution hang on its inputs; groups x outputs x inputs of a group.

    ``gains``: what an output gains for each unit of a constant input that its bias takes over.
    ``needs``: whether it must really read the input, because a weight is not zero and the input
    varies, or is a constant that padding cuts off.
    """

    gains: torch.Tensor
    needs: torch.Tensor


def links_of(graph_module: fx.GraphModule, node: fx.Node, incoming: torch.Tensor) -> Links:
    """Links of a convolution whose input channels have these values (NaN: varying)."""
    conv = Conv.of(node)
    weight = constant(graph_module, conv.weight)
    assert weight is not None
    kernel = weight.double().reshape(conv.groups, weight.shape[0] // conv.groups, weight.shape[1], -1)
    if node.target is not CONV:  # inputs come first there
        kernel = kernel.transpose(1, 2)
    values = incoming.view(conv.groups, 1, -1)
    nonzero = kernel != 0
    cut_off = nonzero[..., ~_unpadded_taps(node, conv, tuple(weight.shape[2:]))].any(-1)
    reads = nonzero.any(-1) & (values != 0)
    return Links(kernel.sum(-1), reads & (values.isnan() | cut_off))


def _unpadded_taps(node: fx.Node, conv: Conv, kernel: tuple[int, ...]) -> torch.Tensor:
    """Flat mask of the taps that read the picture, never the padding, at every position."""
    if node.target is not CONV:
        return torch.zeros(kernel[0] * kernel[1], dtype=torch.bool)  # not every tap serves every pixel
    axes = []
    for axis in (0, 1):
        first = torch.arange(kernel[axis]) * conv.dilation[axis] - int(conv.padding[axis])
        last = first + conv.stride[axis] * (shape(node)[2 + axis] - 1)
        axes.append((first >= 0) & (last < shape(conv.input)[2 + axis]))
    return (axes[0][:, None] & axes[1]).flatten()


def survey(graph_module: fx.GraphModule) -> Channels:
    """Values and needs of all channels."""
    return _Survey(graph_module).result()


@dataclass(frozen=True)
class _Edge:
    """``needs[o, i]``: when slot ``outputs[o]`` is needed, so is ``inputs[i]``; ``spare``: see ``_Survey._spare``."""

    outputs: torch.Tensor
    inputs: torch.Tensor
    needs: torch.Tensor
    spare: int = 0


@dataclass
class _Survey:
    graph_module: fx.GraphModule
    roles: dict[fx.Node, Role] = field(default_factory=dict)
    values: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    slots: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    ranges: dict[fx.Node, tuple[int, int]] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    edges: list[_Edge] = field(default_factory=list)
    pinned: list[torch.Tensor] = field(default_factory=list)

    def result(self) -> Channels:
        for node in self.graph_module.graph.nodes:
            if node.op == "output":
                self.pinned.extend(self._slots_of(source) for source in node.all_input_nodes)
            elif node.op != "get_attr":  # those are looked at when they are read as a map
                self._visit(node)
        roots, slots = torch.tensor([self._root(slot) for slot in range(len(self.parents))]).unique(return_inverse=True)
        final = {node: slots[numbers] for node, numbers in self.slots.items()}
        needed = torch.zeros(len(roots), dtype=torch.bool)
        for numbers in self.pinned:
            needed[slots[numbers]] = True
        edges = [_Edge(slots[e.outputs], slots[e.inputs], e.needs, e.spare) for e in reversed(self.edges)]
        _follow(edges, needed)
        while (starved := next((edge for edge in edges if _starves(edge, needed)), None)) is not None:
            needed[starved.inputs[starved.spare]] = True
            _follow(edges, needed)
        return Channels(self.roles, self.values, final, self.ranges, needed)

    def _visit(self, node: fx.Node) -> None:
        role = self.roles[node] = role_of(self.graph_module, node)
        sources = maps_read(node, role)
        width = shape(node)[1] if is_map(node) else 1
        varying = torch.full((width,), torch.nan, dtype=torch.float64)
        values, slots = varying, None
        if role is Role.INPUT:
            slots = self._fresh(width)
            self.pinned.append(slots)
        elif role is Role.CONSTANT:
            values, slots = self._values_of_stored(node), self._fresh(width)
        elif role in (Role.DENSE, Role.DEPTHWISE, Role.GROUPED):
            links = links_of(self.graph_module, node, self._values_of(sources[0]))
            values = self._values_of_convolution(node, links)
            if role is Role.DENSE:
                slots = self._fresh(width)
                self._need(slots, sources[0], links.needs[0])
            elif role is Role.DEPTHWISE:
                slots = self._slots_of(sources[0]).repeat_interleave(links.needs.shape[1])
        elif role is Role.POINTWISE:
            values, slots = self._values_of_pointwise(node, width), self._slots_of_pointwise(sources, width)
        elif role is Role.SPATIAL:
            values = self._values_of_spatial(node, self._values_of(sources[0]))
            slots = self._slots_of(sources[0])
        elif role is Role.CAT:
            values = torch.cat([self._values_of(source) for source in sources])
            slots = torch.cat([self._slots_of(source) for source in sources])
        elif role is Role.SPLIT:
            values, slots = self._values_of(sources[0]), self._slots_of(sources[0])
        elif role is Role.RANGE:
            first, end = self.ranges[node] = channel_slice(node) or (0, 0)
            values, slots = self._values_of(sources[0])[first:end], self._slots_of(sources[0])[first:end]
        if slots is None:  # all or nothing
            slots = self._fresh(1).repeat(width)
            for source in sources:
                self._need(slots[:1], source, None)
        if keeps_channels(node):
            self.pinned.append(slots)
        self.values[node] = torch.where(values.isfinite(), values, torch.nan)
        self.slots[node] = slots

    # values

    def _values_of(self, node: fx.Node) -> torch.Tensor:
        if node not in self.values:
            self._visit(node)
        return self.values[node]

    def _values_of_stored(self, node: fx.Node) -> torch.Tensor:
        numbers = constant(self.graph_module, node)
        assert numbers is not None
        low, high = numbers.double().amin((0, 2, 3)), numbers.double().amax((0, 2, 3))
        return torch.where(low == high, low, torch.nan)

    def _values_of_convolution(self, node: fx.Node, links: Links) -> torch.Tensor:
        conv = Conv.of(node)
        incoming = self._values_of(conv.input).view(conv.groups, 1, -1)
        result = (links.gains * incoming.nan_to_num()).sum(-1)
        result = torch.where(links.needs.any(-1), torch.nan, result).flatten()
        bias = constant(self.graph_module, conv.bias)
        return result if bias is None else result + bias.double()

    def _values_of_pointwise(self, node: fx.Node, width: int) -> torch.Tensor:
        """The operator applied to the numbers; NaN stays NaN, except that zero times anything is zero."""

        def number(part: fx.Node) -> torch.Tensor:
            if is_map(part):
                return self._values_of(part).view(1, -1, 1, 1)
            stored = constant(self.graph_module, part)
            assert stored is not None
            return stored.double()

        sides = [number(side) for side in node.args if is_map(side)]  # type: ignore[arg-type]
        result = node.target(*fx.map_arg(node.args, number), **node.kwargs)  # type: ignore[operator]
        for side in sides:
            result = torch.where(side.isnan(), torch.nan, result)
        for side in sides if is_op(node, MUL) else ():
            result = torch.where(side == 0, 0.0, result)
        return result.expand(1, width, 1, 1).flatten()

    def _values_of_spatial(self, node: fx.Node, known: torch.Tensor) -> torch.Tensor:
        if is_op(node, INSTANCE_NORM):  # nothing is left of a constant but the shift
            shift = constant(self.graph_module, node.args[2])
            return known * 0 + (0 if shift is None else shift.double())
        return torch.where(_survives(node, known), known, torch.nan)

    # slots

    def _slots_of(self, node: fx.Node) -> torch.Tensor:
        if node not in self.slots:
            self._visit(node)
        return self.slots[node]

    def _slots_of_pointwise(self, sources: list[fx.Node], width: int) -> torch.Tensor:
        full = [self._slots_of(source) for source in sources if shape(source)[1] == width]
        for other in full[1:]:
            for left, right in zip(full[0].tolist(), other.tolist(), strict=True):
                self.parents[self._root(left)] = self._root(right)
        for source in sources:
            if shape(source)[1] != width:
                self._need(full[0], source, None)
        return full[0]

    def _fresh(self, count: int) -> torch.Tensor:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def _root(self, slot: int) -> int:
        while self.parents[slot] != slot:
            self.parents[slot] = slot = self.parents[self.parents[slot]]
        return slot

    def _need(self, outputs: torch.Tensor, source: fx.Node, needs: torch.Tensor | None) -> None:
        inputs = self._slots_of(source)
        if needs is None:
            needs = torch.ones(len(outputs), len(inputs), dtype=torch.bool)
        self.edges.append(_Edge(outputs, inputs, needs, self._spare(source)))

    def _spare(self, source: fx.Node) -> int:
        """The channel to keep where a needed convolution needs none of its inputs: a constant costs least."""
        return int((~self._values_of(source).isnan()).int().argmax())


def _follow(edges: list[_Edge], needed: torch.Tensor) -> None:
    """Mark what the needed slots need, to a fixed point."""
    before = None
    while before is None or not torch.equal(before, needed):
        before = needed.clone()
        for edge in edges:
            needed[edge.inputs[edge.needs[needed[edge.outputs]].any(0)]] = True


def _starves(edge: _Edge, needed: torch.Tensor) -> bool:
    return bool(needed[edge.outputs].any()) and not bool(needed[edge.inputs].any())


def _survives(node: fx.Node, values: torch.Tensor) -> torch.Tensor:
    """Which constant channels a resize, pool, pad or crop hands on with the same value at every pixel."""
    everything = torch.ones_like(values, dtype=torch.bool)
    if is_op(node, MAX_POOL):  # pads with -inf, which loses; a dilated window may see nothing else
        return everything & (pair(argument(node, 4, "dilation", 1)) == (1, 1))
    if is_op(node, AVG_POOL):
        pads = pair(argument(node, 3, "padding", 0)) != (0, 0) and argument(node, 5, "count_include_pad", True)
        rescales = argument(node, 6, "divisor_override") is not None
        return values == 0 if pads or rescales else everything
    if is_op(node, *PADS):
        mode, named = argument(node, 2, "mode", "constant"), node.target is PADS[0]
        fill = argument(node, 3 if named else 2, "value", 0) or 0
        return values == fill if not named or mode == "constant" else everything
    return everything
