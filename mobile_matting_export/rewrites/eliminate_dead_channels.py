"""Drop channels that carry nothing, until none is left.

For a channel with value v at every pixel, W v + b = b + v sum(W): the bias of the convolution that reads it takes
it over, unless the convolution reads padding there; v = 0 is dropped anywhere. Channels that only come and go
together (both sides of a sum or product, a depthwise convolution and its input) go when no reader needs any of
them: ``graph.channels`` says which. A sum, difference or product with an operand that is constant in every
channel loses that whole branch: nothing is left of a zero that is added, another constant goes into the bias of
the convolution before a sum, or stays as one stored number a channel.
Finds: weights that are exactly zero (no threshold), as pruning leaves them; fold_batchnorm must have run.
Refuses: convolutions with groups of several channels, and operators of which it does not know what they
do to channels; both keep all they read. A convolution needed for its constants alone keeps one input.
Exact: up to float32 rounding. The trained portraitnet_video: 2,063,976 parameters to 69,597, alpha moves by 5e-7.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import Role, maps_read, range_source, vectors_of
from mobile_matting_export.graph.channels import Channels, links_of, survey
from mobile_matting_export.graph.ops import ADD, CAT, CONV, DECONV, MUL, SLICE, SUB, Conv, argument, is_op, only_user
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import add_constant, constant, insert_op, replace, set_args, shape, tidy
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes = 0
    while True:
        found = survey(graph_module)
        done = _settle_constant_operands(graph_module, found)
        if not done and found.unneeded:
            _Shrinker(graph_module, found).run()
            done = found.unneeded
        if not done:
            return Outcome(changes, _refusals(graph_module, found))
        tidy(graph_module)
        changes += done


def _refusals(graph_module: fx.GraphModule, found: Channels) -> tuple[str, ...]:
    sentences = []
    for node, role in found.roles.items():
        constants = sum(int((~found.values[source].isnan()).sum()) for source in maps_read(node, role))
        if role is Role.OTHER and constants:
            sentences.append(f"{describe(node)}: kept whole with {constants} constant channels, it is not understood")
        if role is Role.GROUPED:
            needs = links_of(graph_module, node, found.values[node.args[0]]).needs  # type: ignore[index]
            idle, fixed = int((~needs.any(1)).sum()), int((~found.values[node].isnan()).sum())
            if idle or fixed:
                sentences.append(
                    f"{describe(node)}: kept whole with {idle} unneeded inputs and {fixed} constant outputs, "
                    f"its {needs.shape[0]} groups must stay equal in size"
                )
    return tuple(sentences)


def _settle_constant_operands(graph_module: fx.GraphModule, found: Channels) -> int:
    """Cut off branches that add or multiply the same number a channel, whatever the picture."""
    changes = 0
    for node in list(graph_module.graph.nodes):
        if not is_op(node, ADD, SUB, MUL) or found.roles[node] is not Role.POINTWISE:
            continue
        for index, other in ((1, node.args[0]), (0, node.args[1])):
            side = node.args[index]
            whole = isinstance(side, fx.Node) and isinstance(other, fx.Node) and shape(other) == shape(node)
            if whole and found.is_constant(side) and _settle(graph_module, node, index, found):
                changes += 1
                break
    return changes


def _settle(graph_module: fx.GraphModule, node: fx.Node, index: int, found: Channels) -> bool:
    """Take the constant operand of that index away, or store it as numbers; False when it is stored already."""
    side, other = node.args[index], node.args[1 - index]
    values = found.values[side]
    plain_sum = is_op(node, ADD) and argument(node, 2, "alpha", 1) == 1
    if not values.any() and (plain_sum or (is_op(node, SUB) and index == 1)):
        replace(graph_module, node, other)
        return True
    if plain_sum and only_user(other) is node and is_op(other, CONV, DECONV):
        conv = Conv.of(other)
        bias = constant(graph_module, conv.bias)
        if conv.bias is None or bias is not None:
            total = values.expand(shape(other)[1]) + (0 if bias is None else bias.double())
            bias_node = add_constant(graph_module, total, f"{other.name}_bias", other)
            set_args(graph_module, other, dataclasses.replace(conv, bias=bias_node).args_for(other.target))
            found.values[other] = found.values[node]
            replace(graph_module, node, other)
            return True
    if side.op == "get_attr" or other.op == "get_attr":
        return False
    stored = add_constant(graph_module, values.view(1, -1, 1, 1), f"{node.name}_constant", node)
    set_args(graph_module, node, (other, stored) if index else (stored, other))
    return True


class _Shrinker:
    """Takes the channels that nobody needs out of every tensor; nodes of which nothing is left fall to ``tidy``."""

    def __init__(self, graph_module: fx.GraphModule, found: Channels) -> None:
        self.graph_module = graph_module
        self.found = found
        self.stored: dict[tuple[object, ...], fx.Node] = {}

    def run(self) -> None:
        """Shrink, then drop slices and concatenations of a single whole map."""
        for node in list(self.graph_module.graph.nodes):
            role = self.found.roles.get(node)
            if role is not None and node.op == "call_function" and self._loses(node, maps_read(node, role)):
                self._shrink(node, role)
        for node in list(self.graph_module.graph.nodes):
            if is_op(node, CAT) and len(node.args[0]) == 1:
                replace(self.graph_module, node, node.args[0][0])
            elif self.found.roles.get(node) is Role.RANGE and shape(node) == shape(range_source(node)):
                replace(self.graph_module, node, range_source(node))

    def _loses(self, node: fx.Node, sources: list[fx.Node]) -> bool:
        """Whether something of ``node`` stays and something goes."""
        kept = [self.found.kept(part) for part in (node, *sources)]
        return bool(kept[0].any()) and not all(bool(part.all()) for part in kept)

    def _shrink(self, node: fx.Node, role: Role) -> None:
        args: list[object] = list(node.args)
        if role in (Role.DENSE, Role.DEPTHWISE):
            set_args(self.graph_module, node, self._shrink_convolution(node, role))
        elif role is Role.RANGE:
            source, (first, _) = range_source(node), self.found.ranges[node]
            start, width = int(self.found.kept(source)[:first].sum()), int(self.found.kept(node).sum())
            taken = (self._map(source, node), 1, start, start + width)
            new = insert_op(self.graph_module, node, SLICE, *taken, like=node)
            self.found.adopt(new, node)
            replace(self.graph_module, node, new)
        elif role is Role.CAT:
            parts = [self._map(part, node) for part in node.args[0] if self.found.kept(part).any()]
            set_args(self.graph_module, node, (parts, *args[1:]))
        elif role in (Role.POINTWISE, Role.SPATIAL):
            args = [self._map(part, node) if part in self.found.slots else part for part in args]
            for position in vectors_of(node):
                numbers = constant(self.graph_module, node.args[position])
                if numbers is not None and len(numbers) > 1:
                    args[position] = self._store(numbers[self.found.kept(node)], node.args[position], node)
            set_args(self.graph_module, node, tuple(args))

    def _shrink_convolution(self, node: fx.Node, role: Role) -> tuple[object, ...]:
        conv = Conv.of(node)
        outputs, inputs = self.found.kept(node), self.found.kept(conv.input)
        weight, bias = constant(self.graph_module, conv.weight), constant(self.graph_module, conv.bias)
        assert weight is not None
        rows, columns = (outputs, inputs) if node.target is CONV else (inputs, outputs)
        groups = 1
        if role is Role.DENSE:
            incoming = self.found.values[conv.input]
            gains = links_of(self.graph_module, node, incoming).gains[0]
            gain = gains[:, ~inputs] @ incoming[~inputs].nan_to_num()
            if gain[outputs].any():
                bias = gain if bias is None else bias.double() + gain
            small = weight[rows][:, columns]
        else:
            small, groups = weight[rows], int(inputs.sum())
        shrunk = dataclasses.replace(
            conv,
            input=self._map(conv.input, node),
            weight=self._store(small, conv.weight, node),
            bias=None if bias is None else self._store(bias[outputs], conv.bias or node, node),
            groups=groups,
        )
        return shrunk.args_for(node.target)

    def _map(self, source: fx.Node, reader: fx.Node) -> fx.Node:
        """``source`` as ``reader`` is to read it: a stored map gets a smaller copy, others shrink themselves."""
        kept = self.found.kept(source)
        if source.op != "get_attr" or bool(kept.all()):
            return source
        numbers = constant(self.graph_module, source)
        assert numbers is not None
        return self._store(numbers[:, kept], source, reader)

    def _store(self, numbers: torch.Tensor, origin: fx.Node, before: fx.Node) -> fx.Node:
        """A constant; readers that shared ``origin`` go on sharing what became of it."""
        numbers = numbers.float()
        key = (origin, tuple(numbers.shape), numbers.numpy().tobytes())
        if key not in self.stored:
            self.stored[key] = add_constant(self.graph_module, numbers, f"{origin.name}_kept", before)
        return self.stored[key]


ELIMINATE_DEAD_CHANNELS = Rewrite(
    name="eliminate_dead_channels",
    why="what pruning has set to zero is neither stored nor computed",
    apply=_apply,
)
