"""Which maps could have more channels, and how the channels would lie then: an analysis, it edits nothing.

Maps that get their channels one by one from what is read have as many as that: they form a family, which grows
together or not at all. A convolution lets its input and its output grow apart. A concatenation grows with its
parts, in the middle where its first parts do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import Role, is_map, maps_read, role_of
from mobile_matting_export.graph.ops import is_op
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import shape

aten = torch.ops.aten

# a channel of zeros must stay finite: a weight of zero times infinity is no zero
_NOT_FINITE_AT_ZERO = (aten.div.Tensor, aten.rsqrt.default, aten.pow.Tensor_Scalar)


@dataclass
class Widths:
    """Families of maps and how they grow.

    Args:
        graph_module: is not edited.
        wanted: from the channels that a family of convolutions has to those that it is to have.
        aligned: what is joined must be a multiple of it, else no part grows: 13 + 3 stays 16.
        contented: from the computed maps of a family to the reason why it is well as it is; None where it is not.

    ``fixed`` says of a family why it does not grow.
    """

    graph_module: fx.GraphModule
    wanted: Callable[[int], int]
    aligned: int
    contented: Callable[[Sequence[fx.Node]], str | None]
    fixed: dict[fx.Node, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._parents: dict[fx.Node, fx.Node] = {}
        self._layouts: dict[fx.Node, torch.Tensor] = {}
        self._cats: dict[fx.Node, list[fx.Node]] = {}  # by family
        nodes = list(self.graph_module.graph.nodes)
        for node in nodes:
            self._visit(node)
        families: dict[fx.Node, list[fx.Node]] = {}
        for node in nodes:
            if node.op == "call_function" and is_map(node):
                families.setdefault(self.of(node), []).append(node)
            if node.op != "output" and role_of(self.graph_module, node) is Role.CAT:
                self._cats.setdefault(self.of(node), []).append(node)
        for family, maps in families.items():
            if (reason := self.contented(maps)) is not None:
                self.fixed.setdefault(family, reason)
        self._spread()

    def of(self, node: fx.Node) -> fx.Node:
        """The family of a map, which is known by one of its maps."""
        while (above := self._parents.get(node, node)) is not node:
            node = above
        return node

    def layout(self, node: fx.Node) -> torch.Tensor:
        """The old channel of every new channel of a map, -1 for one of zeros."""
        old, family = torch.arange(shape(node)[1]), self.of(node)
        if node.op == "get_attr":  # who reads it makes it fit
            return old
        if family not in self._layouts:
            cats = self._cats.get(family, [])
            if family in self.fixed:
                self._layouts[family] = old
            elif cats:
                self._layouts[family] = self._joined(cats[0])  # the others join the same families
            else:
                zeros = torch.full((self.wanted(len(old)) - len(old),), -1)
                self._layouts[family] = torch.cat([old, zeros])
        return self._layouts[family]

    def _joined(self, cat: fx.Node) -> torch.Tensor:
        first, found = 0, []
        for part in cat.args[0]:  # type: ignore[union-attr]
            layout = self.layout(part)  # type: ignore[arg-type]
            found.append(torch.where(layout < 0, layout, layout + first))
            first += shape(part)[1]  # type: ignore[arg-type]
        return torch.cat(found)

    def _grows(self, node: fx.Node) -> bool:
        return len(self.layout(node)) > shape(node)[1]

    def _visit(self, node: fx.Node) -> None:
        if node.op == "output":
            self._fix(node.all_input_nodes, "it is a result")
            return
        role = role_of(self.graph_module, node)
        sources = [source for source in maps_read(node, role) if is_map(source) and source.op != "get_attr"]
        if role is Role.INPUT:
            self._fix([node], "it is an input")
        elif role is Role.DEPTHWISE and shape(node)[1] == shape(sources[0])[1]:
            self._unite(node, sources[0])
        elif role in (Role.POINTWISE, Role.SPATIAL):
            for source in sources:
                if shape(source)[1] == shape(node)[1]:
                    self._unite(node, source)
                else:
                    self._fix([source], f"{describe(node)} spreads it over channels")
            if is_op(node, *_NOT_FINITE_AT_ZERO):
                self._fix([node, *sources], f"{describe(node)} makes infinities of zeros")
        elif role not in (Role.DENSE, Role.CAT, Role.CONSTANT):
            self._fix([node, *sources], f"{describe(node)} needs channels as they are")

    def _unite(self, left: fx.Node, right: fx.Node) -> None:
        left, right = self.of(left), self.of(right)
        if left is not right:
            self._parents[left] = right
            if left in self.fixed:
                self.fixed.setdefault(right, self.fixed[left])

    def _fix(self, nodes: list[fx.Node], reason: str) -> int:
        """How many families were not fixed before."""
        families = {self.of(node) for node in nodes if is_map(node) and node.op != "get_attr"}
        new = families - self.fixed.keys()
        self.fixed |= dict.fromkeys(new, reason)
        return len(new)

    def _spread(self) -> None:
        """What is joined to a fixed map is fixed; maps joined in several ways must not grow in any."""
        while any([self._spread_from(family, cats) for family, cats in self._cats.items()]):
            self._layouts.clear()

    def _spread_from(self, family: fx.Node, cats: list[fx.Node]) -> int:
        lists = [[self.of(part) for part in cat.args[0]] for cat in cats]  # type: ignore[union-attr, arg-type]
        if len({tuple(parts) for parts in lists}) > 1 or family in lists[0]:
            self._fix([family], f"{describe(cats[0])} and {describe(cats[-1])} join it in different ways")
        elif family not in self.fixed and len(self.layout(cats[0])) % self.aligned:
            reason = f"{describe(cats[0])} joins it to what makes no multiple of {self.aligned}"
            return self._fix([part for part in cats[0].args[0] if self._grows(part)], reason)  # type: ignore[union-attr, misc, arg-type]
        if family not in self.fixed:
            return 0
        return sum(self._fix(parts, f"it is joined to what stays: {self.fixed[family]}") for parts in lists)
