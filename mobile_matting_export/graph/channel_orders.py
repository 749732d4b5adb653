"""What must be reordered for a channel shuffle to go: an analysis, it edits nothing.

Every map may keep its channels in another order than the network's, as long as everything before and
behind it agrees: t' = t[:, order]. A dense convolution takes any order on either side (rows or columns of its
weight), one with groups an order inside its groups. Pointwise operators, resizes, pools and depthwise
convolutions hand an order on, both ways; a concatenation hands on an order inside each part. Inputs, outputs
and operators that are not understood need the network's own order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import Role, maps_read, role_of
from mobile_matting_export.graph.channel_shuffle import Shuffle
from mobile_matting_export.graph.ops import Conv, channel_slice
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import shape


class StuckError(Exception):
    """An order that cannot be handed on; the text says where."""


@dataclass
class Orders:
    """New channel c of ``node`` is its old channel ``of(node)[c]``; the shuffles of ``dissolved`` are then nothing.

    ``solve`` follows one demand through the graph, which it does not edit.
    """

    graph_module: fx.GraphModule
    shuffles: list[Shuffle]
    orders: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    dissolved: set[fx.Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._by_end = {shuffle.end: shuffle for shuffle in self.shuffles}
        self._by_start = {shuffle.start: shuffle for shuffle in self.shuffles}
        self._positions = {node: number for number, node in enumerate(self.graph_module.graph.nodes)}
        self._waiting: list[fx.Node] = []
        self._cats: set[fx.Node] = set()

    def of(self, node: fx.Node) -> torch.Tensor:
        """The order of a map, the network's own when nothing was demanded."""
        return self.orders.get(node, torch.arange(shape(node)[1]))

    def solve(self, node: fx.Node, order: torch.Tensor) -> None:
        """Demand ``order`` of ``node`` and of all that follows from it.

        Raises:
            StuckError: the first place that cannot take it.
        """
        self._demand(node, order)
        while self._waiting or self._cats:
            if self._waiting:
                self._spread(self._waiting.pop())
            else:  # by now as many of its parts as can be have their order
                cat = min(self._cats, key=self._positions.__getitem__)
                self._cats.remove(cat)
                self._demand(cat, _joined([self.of(part) for part in cat.args[0]]))  # type: ignore[union-attr, arg-type]

    def _demand(self, node: fx.Node, order: torch.Tensor) -> None:
        if node not in self.orders:
            self.orders[node] = order
            if not _is_identity(order):
                self._waiting.append(node)
        elif not torch.equal(self.orders[node], order):
            raise StuckError(f"{describe(node)} would be needed in two orders")

    def _spread(self, node: fx.Node) -> None:
        order = self.orders[node]
        self._spread_back(node, order)
        for reader in node.users:
            self._spread_to(reader, node, order)

    def _spread_back(self, node: fx.Node, order: torch.Tensor) -> None:
        if node in self._by_end:
            shuffle = self._by_end[node]
            self.dissolved.add(node)
            self._demand(shuffle.source, shuffle.order[order])
            return
        role = role_of(self.graph_module, node)
        if role is Role.DEPTHWISE:
            owners = order.view(shape(node.args[0])[1], -1) // (len(order) // shape(node.args[0])[1])  # type: ignore[arg-type]
            if not bool((owners == owners[:, :1]).all()):
                raise StuckError(f"{describe(node)} makes several channels of each it reads, which would be mixed")
            self._demand(node.args[0], owners[:, 0])  # type: ignore[arg-type]
        elif role in (Role.POINTWISE, Role.SPATIAL):
            for source in maps_read(node, role):
                if shape(source)[1] == len(order) and source.op != "get_attr":
                    self._demand(source, order)
        elif role is Role.CAT:
            self._spread_to_parts(node, order)
        elif role is Role.GROUPED:
            self._require_inside(node, order, Conv.of(node).groups, "makes")
        elif role is not Role.DENSE:
            raise StuckError(f"{describe(node)} gives its channels in their own order")

    def _spread_to_parts(self, cat: fx.Node, order: torch.Tensor) -> None:
        first = 0
        for part in cat.args[0]:  # type: ignore[union-attr]
            end = first + shape(part)[1]  # type: ignore[arg-type]
            inside = order[first:end] - first
            if not _is_permutation(inside):
                raise StuckError(f"the parts of {describe(cat)} would be mixed")
            if part.op == "get_attr" and not _is_identity(inside):  # type: ignore[union-attr]
                raise StuckError(f"{describe(cat)} joins stored numbers")
            self._demand(part, inside)  # type: ignore[arg-type]
            first = end

    def _spread_to(self, reader: fx.Node, node: fx.Node, order: torch.Tensor) -> None:
        if reader in self._by_start:
            shuffle = self._by_start[reader]
            self.dissolved.add(shuffle.end)
            self._demand(shuffle.end, shuffle.order.argsort()[order])
            return
        role = Role.OTHER if reader.op == "output" else role_of(self.graph_module, reader)
        if role is Role.DEPTHWISE:
            times = shape(reader)[1] // len(order)
            self._demand(reader, (order[:, None] * times + torch.arange(times)).flatten())
        elif role in (Role.POINTWISE, Role.SPATIAL):
            if shape(reader)[1] != len(order):
                raise StuckError(f"{describe(reader)} changes the number of channels")
            self._demand(reader, order)
        elif role is Role.CAT:
            if reader in self.orders:
                raise StuckError(f"the parts of {describe(reader)} would be needed in two orders")
            self._cats.add(reader)
        elif role is Role.SPLIT:
            for part in reader.users:
                self._spread_to_range(part, order)
        elif role is Role.RANGE:
            self._spread_to_range(reader, order)
        elif role is Role.GROUPED:
            self._require_inside(reader, order, Conv.of(reader).groups, "reads")
        elif role is not Role.DENSE:
            name = "the output of the network" if reader.op == "output" else describe(reader)
            raise StuckError(f"{name} needs the channels in their own order")

    def _spread_to_range(self, part: fx.Node, order: torch.Tensor) -> None:
        channels = channel_slice(part)
        inside = None if channels is None else order[slice(*channels)] - channels[0]
        if inside is None or not _is_permutation(inside):
            raise StuckError(f"{describe(part)} takes channels apart")
        self._demand(part, inside)

    def _require_inside(self, node: fx.Node, order: torch.Tensor, groups: int, does: str) -> None:
        if not all(_is_permutation(part - first) for first, part in _groups(order, groups)):
            raise StuckError(f"{describe(node)} {does} its channels in {groups} groups, which would be mixed")


def _groups(order: torch.Tensor, groups: int) -> Iterable[tuple[int, torch.Tensor]]:
    """First channel and order of each group."""
    width = len(order) // groups
    return [(first, order[first : first + width]) for first in range(0, len(order), width)]


def _joined(orders: list[torch.Tensor]) -> torch.Tensor:
    offsets, result = 0, []
    for order in orders:
        result.append(order + offsets)
        offsets += len(order)
    return torch.cat(result)


def _is_permutation(order: torch.Tensor) -> bool:
    return _is_identity(order.sort().values)


def _is_identity(order: torch.Tensor) -> bool:
    return torch.equal(order, torch.arange(len(order)))
