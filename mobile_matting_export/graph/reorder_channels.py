"""Giving maps the channel orders that were found: weights, slopes and stored numbers change places."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import fx

from mobile_matting_export.graph.channel_orders import Orders
from mobile_matting_export.graph.channel_roles import Role, is_map, maps_read, role_of, vectors_of
from mobile_matting_export.graph.ops import CONV, Conv
from mobile_matting_export.graph.surgery import add_constant, constant, replace, set_args, shape


def reorder_channels(graph_module: fx.GraphModule, found: Orders) -> None:
    """Permute every tensor whose map has a new order, and take the dissolved shuffles out."""
    stored: dict[tuple[object, ...], fx.Node] = {}

    def permuted(tensor: fx.Node, numbers: torch.Tensor, before: fx.Node, *key: torch.Tensor) -> fx.Node:
        """A constant; readers that shared a tensor, and want it in the same order, go on sharing it."""
        name = (tensor, *(tuple(order.tolist()) for order in key))
        if name not in stored:
            stored[name] = add_constant(graph_module, numbers, f"{tensor.name}_reordered", before)
        return stored[name]

    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or not is_map(node):
            continue
        role = role_of(graph_module, node)
        order = found.of(node)
        if role in (Role.DENSE, Role.DEPTHWISE, Role.GROUPED):
            conv = Conv.of(node)
            incoming = found.of(conv.input)
            weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
            assert weight is not None
            if _moves(incoming) or _moves(order):
                kernel = _permuted_kernel(weight, node, incoming, order)
                changed = dataclasses.replace(conv, weight=permuted(conv.weight, kernel, node, incoming, order))
                if bias is not None and conv.bias is not None and _moves(order):
                    changed = dataclasses.replace(changed, bias=permuted(conv.bias, bias[order], node, order))
                set_args(graph_module, node, changed.args_for(node.target))
        elif role in (Role.POINTWISE, Role.SPATIAL) and _moves(order):
            args: list[Any] = list(node.args)
            for position in vectors_of(node):
                numbers = constant(graph_module, args[position])
                if numbers is not None and len(numbers) > 1:
                    args[position] = permuted(args[position], numbers[order], node, order)
            for position, source in enumerate(args):
                if source in maps_read(node, role) and source.op == "get_attr" and shape(source)[1] > 1:
                    numbers = constant(graph_module, source)
                    assert numbers is not None
                    args[position] = permuted(source, numbers[:, order], node, order)
            set_args(graph_module, node, tuple(args))
    for shuffle in found.shuffles:
        if shuffle.end in found.dissolved:
            replace(graph_module, shuffle.end, shuffle.source)


def _moves(order: torch.Tensor) -> bool:
    return not torch.equal(order, torch.arange(len(order)))


def _permuted_kernel(weight: torch.Tensor, node: fx.Node, inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """The weight of a convolution whose input and output channels come in these orders."""
    groups = Conv.of(node).groups
    rows, columns = (outputs, inputs) if node.target is CONV else (inputs, outputs)
    blocks = weight.view(groups, -1, *weight.shape[1:])
    if groups == len(inputs):  # depthwise: the groups themselves come in the order of the inputs
        blocks = blocks[inputs]
    inside_rows, inside_columns = (order.view(groups, -1) % (len(order) // groups) for order in (rows, columns))
    return torch.cat(
        [block[row][:, column] for block, row, column in zip(blocks, inside_rows, inside_columns, strict=True)]
    )
