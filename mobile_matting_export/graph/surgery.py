"""The only module that edits graphs: constants, new nodes, replacement, tidying, shapes.

Every node of a graph kept by these functions carries ``meta["shape"]``: a tuple of ints for a
tensor, a tuple of such tuples for a multiple result.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

_KEPT = "mmexport_kept_channels"
_PROVENANCE = ("nn_module_stack", "stack_trace", "source_fn_stack")


def shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of the tensor that ``node`` computes."""
    return node.meta["shape"]


def constant(graph_module: fx.GraphModule, node: Any) -> torch.Tensor | None:
    """The tensor behind a ``get_attr`` node, or None for anything else (an absent bias, say)."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return graph_module.get_buffer(str(node.target)).detach()


def add_constant(graph_module: fx.GraphModule, tensor: torch.Tensor, hint: str, before: fx.Node) -> fx.Node:
    """Register ``tensor`` (as float32 when floating) under a fresh name made of ``hint``."""
    stem = re.sub(r"\W", "_", hint)[:60]
    number = 0
    while hasattr(graph_module, name := f"{stem}_{number}"):
        number += 1
    value = tensor.detach().clone().contiguous()
    graph_module.register_buffer(name, value.float() if value.is_floating_point() else value)
    with graph_module.graph.inserting_before(before):
        node = graph_module.graph.get_attr(name)
    node.meta["shape"] = tuple(tensor.shape)
    return node


def insert_op(
    graph_module: fx.GraphModule, before: fx.Node, target: Callable[..., Any], *args: Any, like: fx.Node
) -> fx.Node:
    """Insert ``target(*args)`` before a node, with the provenance of ``like`` and its shape known."""
    with graph_module.graph.inserting_before(before):
        node = graph_module.graph.call_function(target, args)
    node.meta.update({key: like.meta[key] for key in _PROVENANCE if key in like.meta})
    node.meta["shape"] = _shape_on_meta(graph_module, node)
    return node


def set_args(graph_module: fx.GraphModule, node: fx.Node, args: tuple[Any, ...]) -> None:
    """Give ``node`` other arguments and refresh its shape."""
    node.args = args
    node.meta["shape"] = _shape_on_meta(graph_module, node)


def retarget(node: fx.Node, target: Callable[..., Any]) -> None:
    """Let ``node`` call another operator that takes the same arguments and gives the same shape."""
    node.target = target


def reread(reader: fx.Node, old: fx.Node, new: fx.Node) -> None:
    """Let one ``reader`` of ``old`` read ``new``, of the same shape, instead."""
    reader.replace_input_with(old, new)


def keep_channels(node: fx.Node) -> None:
    """Mark the channels of ``node`` as wanted, although nothing may be in them."""
    node.meta[_KEPT] = True


def keeps_channels(node: fx.Node) -> bool:
    """Whether ``keep_channels`` has marked ``node``."""
    return bool(node.meta.get(_KEPT))


def erase(graph_module: fx.GraphModule, node: fx.Node) -> None:
    """Erase a node that nobody reads any more."""
    graph_module.graph.erase_node(node)


def replace(graph_module: fx.GraphModule, old: fx.Node, new: fx.Node) -> None:
    """Let every reader of ``old`` read ``new`` and erase ``old``."""
    old.replace_all_uses_with(new)
    graph_module.graph.erase_node(old)


def tidy(graph_module: fx.GraphModule) -> None:
    """Drop what nobody reads (nodes, tensors), check the graph, regenerate its code."""
    graph_module.graph.eliminate_dead_code()
    used = {node.target for node in graph_module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in graph_module.named_buffers() if name not in used]:
        delattr(graph_module, name)
    graph_module.graph.lint()
    graph_module.recompile()


def annotate_shapes(graph_module: fx.GraphModule, examples: tuple[torch.Tensor, ...]) -> None:
    """Run the graph once on ``examples`` and note the shape of every result."""
    with torch.no_grad():
        _ShapeRecorder(graph_module).run(*examples)


class _ShapeRecorder(fx.Interpreter):
    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if node.op != "output":
            node.meta["shape"] = _shapes_of(result)
        return result


def _shapes_of(result: Any) -> tuple[Any, ...]:
    if isinstance(result, torch.Tensor):
        return tuple(result.shape)
    return tuple(_shapes_of(item) for item in result)


def _shape_on_meta(graph_module: fx.GraphModule, node: fx.Node) -> tuple[Any, ...]:
    """The shape of a call, found by running it on the meta device (no arithmetic)."""

    def stand_in(argument: fx.Node) -> Any:
        known = argument.meta["shape"]
        if known and isinstance(known[0], tuple):
            return tuple(torch.empty(item, device="meta") for item in known)
        return torch.empty(known, device="meta")

    args = fx.map_arg(node.args, stand_in)
    kwargs = fx.map_arg(node.kwargs, stand_in)
    return _shapes_of(node.target(*args, **kwargs))  # type: ignore[operator]
