"""Which channels may be multiplied by a positive number, and which must then be multiplied alike.

A convolution takes a factor of its input out of its weights again and puts any factor onto its output, so what it
reads and what it writes are independent. Everything that is linear or positively homogeneous hands a factor on:
sums, pools, resizes, ReLU, PReLU, concatenations. What is neither, and the graph's inputs and results, hold their
channels at 1. An analysis: it edits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import MAX_POOL, PADS, Role, is_map, maps_read, role_of
from mobile_matting_export.graph.ops import ADD, INSTANCE_NORM, MUL, SUB, argument, channel_slice, is_op
from mobile_matting_export.graph.surgery import shape
from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE, RESIZE_BILINEAR_LEGACY, SPREAD_COLUMNS

aten = torch.ops.aten

_HOMOGENEOUS = (
    *(aten.relu.default, aten.leaky_relu.default, aten.prelu.default, aten.neg.default, aten.abs.default),
    *(aten.maximum.default, aten.minimum.default),
)
_SPATIAL_OF_TFLITE = (RESIZE_BILINEAR_LEGACY, CROP)


@dataclass(frozen=True)
class ChannelScales:
    """``groups``: for every map one group number a channel; ``held``: by group, whether its factor must be 1."""

    groups: dict[fx.Node, torch.Tensor]
    held: torch.Tensor


def group_channels(graph_module: fx.GraphModule) -> ChannelScales:
    """The channels of every 4-D map of the graph in groups of one common factor."""
    return _Grouping(graph_module).result()


@dataclass
class _Grouping:
    graph_module: fx.GraphModule
    slots: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    held: list[torch.Tensor] = field(default_factory=list)

    def result(self) -> ChannelScales:
        for node in self.graph_module.graph.nodes:
            if node.op == "output":
                self.held.extend(self._slots_of(source) for source in node.all_input_nodes if is_map(source))
            elif node.op != "get_attr":
                self._visit(node)
        roots, numbers = torch.tensor([self._root(slot) for slot in range(len(self.parents))]).unique(
            return_inverse=True
        )
        held = torch.zeros(len(roots), dtype=torch.bool)
        for slots in self.held:
            held[numbers[slots]] = True
        return ChannelScales({node: numbers[slots] for node, slots in self.slots.items()}, held)

    def _visit(self, node: fx.Node) -> None:
        role = role_of(self.graph_module, node)
        sources = maps_read(node, role)
        if role in (Role.DENSE, Role.DEPTHWISE, Role.GROUPED):
            self._slots_of(sources[0])
            self.slots[node] = self._fresh(shape(node)[1])
        elif role is Role.CAT:
            self.slots[node] = torch.cat([self._slots_of(source) for source in sources])
        elif role is Role.SPLIT:
            self.slots[node] = self._slots_of(sources[0])
        elif role is Role.RANGE:
            first, end = channel_slice(node) or (0, 0)
            self.slots[node] = self._slots_of(sources[0])[first:end]
        elif is_op(node, *_SPATIAL_OF_TFLITE) or (role is Role.SPATIAL and _is_homogeneous(node)):
            self.slots[node] = self._slots_of(node.args[0])
        elif is_op(node, SPREAD_COLUMNS, DEPTH_TO_SPACE):
            self.slots[node] = self._folded(self._slots_of(node.args[0]), shape(node)[1])
        elif role is Role.POINTWISE and self._hands_on(node, sources):
            self.slots[node] = self._tied(node, sources)
        else:
            for source in node.all_input_nodes:
                if is_map(source):
                    self.held.append(self._slots_of(source))
            if is_map(node):
                self.slots[node] = self._fresh(shape(node)[1])
                self.held.append(self.slots[node])

    def _hands_on(self, node: fx.Node, sources: list[fx.Node]) -> bool:
        """Whether a factor of what is read, on all sides at once, is one of the result."""
        if is_op(node, *_HOMOGENEOUS):
            return True
        numbers = any(isinstance(side, (int, float)) and side != 0 for side in node.args[:2])
        if is_op(node, ADD, SUB):
            return not numbers and len(sources) == 2
        return is_op(node, MUL) and len([side for side in sources if side.op != "get_attr"]) == 1

    def _tied(self, node: fx.Node, sources: list[fx.Node]) -> torch.Tensor:
        """The slots of the result: those of the widest operand, with the others' tied to them."""
        moving = [side for side in sources if not (is_op(node, MUL) and side.op == "get_attr")]
        widest = max(moving, key=lambda side: shape(side)[1])
        slots = self._slots_of(widest)
        for side in moving:
            other = self._slots_of(side)
            for left, right in zip(slots.tolist(), other.expand_as(slots).tolist(), strict=True):
                self._tie(left, right)
        if len(slots) < shape(node)[1]:
            slots = slots.expand(shape(node)[1])
        return slots

    def _folded(self, slots: torch.Tensor, channels: int) -> torch.Tensor:
        """Channel c of the result holds the channels c, c + channels, ... of what is read."""
        rows = slots.view(-1, channels)
        for row in rows[1:]:
            for left, right in zip(rows[0].tolist(), row.tolist(), strict=True):
                self._tie(left, right)
        return rows[0]

    def _slots_of(self, node: fx.Node) -> torch.Tensor:
        if node not in self.slots:  # a stored map
            self.slots[node] = self._fresh(shape(node)[1])
            self.held.append(self.slots[node])
        return self.slots[node]

    def _fresh(self, count: int) -> torch.Tensor:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def _tie(self, left: int, right: int) -> None:
        self.parents[self._root(left)] = self._root(right)

    def _root(self, slot: int) -> int:
        while self.parents[slot] != slot:
            self.parents[slot] = slot = self.parents[self.parents[slot]]
        return slot


def _is_homogeneous(node: fx.Node) -> bool:
    """Whether a spatial operator of ``k * x`` is ``k`` times that of ``x``; max pools pad with minus infinity."""
    if is_op(node, INSTANCE_NORM):
        return False
    if not is_op(node, *PADS) or is_op(node, MAX_POOL):
        return True
    named = node.target is PADS[0]
    mode = argument(node, 2, "mode", "constant") if named else "constant"
    return mode != "constant" or not (argument(node, 3 if named else 2, "value", 0) or 0)
