"""Recognizing channel shuffles: what only gives a map's channels another order.

Understood are view, transpose or permute, and view again (the middle ones read once), ``channel_shuffle``,
and ``index_select`` or indexing by stored numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mobile_matting_export.graph.channel_roles import is_map
from mobile_matting_export.graph.ops import RESHAPES, is_op, only_user
from mobile_matting_export.graph.surgery import constant, shape

aten = torch.ops.aten

_SHUFFLES = (aten.channel_shuffle.default, aten.native_channel_shuffle.default)
_DEALS = (aten.transpose.int, aten.permute.default)
_COPIES = (aten.clone.default, aten.contiguous.default)


@dataclass(frozen=True)
class Shuffle:
    """``end`` computes ``source[:, order]``; ``start`` is the operator that reads ``source`` (``end``, when alone)."""

    source: fx.Node
    start: fx.Node
    end: fx.Node
    order: torch.Tensor


def shuffles_of(graph_module: fx.GraphModule) -> list[Shuffle]:
    """All shuffles of a graph, in its order."""
    found = (shuffle_at(graph_module, node) for node in graph_module.graph.nodes)
    return [shuffle for shuffle in found if shuffle is not None]


def shuffle_at(graph_module: fx.GraphModule, end: fx.Node) -> Shuffle | None:
    """The shuffle whose result ``end`` is, or None."""
    if end.op != "call_function" or not is_map(end):
        return None
    if is_op(end, *_SHUFFLES) and is_map(end.args[0]):
        groups, channels = int(end.args[1]), shape(end)[1]  # type: ignore[arg-type]
        dealt = torch.arange(channels).view(groups, -1).t().flatten()
        return Shuffle(end.args[0], end, end, dealt)  # type: ignore[arg-type]
    if is_op(end, aten.index_select.default, aten.index.Tensor) and is_map(end.args[0]):
        order = _indices(graph_module, end)
        whole = order is not None and torch.equal(order.sort().values, torch.arange(shape(end.args[0])[1]))  # type: ignore[arg-type]
        return Shuffle(end.args[0], end, end, order) if whole else None  # type: ignore[arg-type]
    return _spelled_out(end) if is_op(end, *RESHAPES) else None


def _indices(graph_module: fx.GraphModule, node: fx.Node) -> torch.Tensor | None:
    if node.target is aten.index_select.default:
        return constant(graph_module, node.args[2]) if node.args[1] in (1, -3) else None
    first, *rest = node.args[1]  # type: ignore[misc]
    numbers = constant(graph_module, rest[0]) if first is None and len(rest) == 1 else None
    return numbers if numbers is not None and numbers.dim() == 1 and numbers.dtype == torch.int64 else None


def _spelled_out(end: fx.Node) -> Shuffle | None:
    deal, reader = end.args[0], end
    if is_op(deal, *_COPIES) and only_user(deal) is end:  # type: ignore[arg-type]
        deal, reader = deal.args[0], deal  # type: ignore[assignment, union-attr]
    if not is_op(deal, *_DEALS) or only_user(deal) is not reader:  # type: ignore[arg-type]
        return None
    start: Any = deal.args[0]  # type: ignore[union-attr]
    if not is_op(start, *RESHAPES) or only_user(start) is not deal or not is_map(start.args[0]):
        return None
    source = start.args[0]
    if shape(source) != shape(end) or shape(start)[0] != shape(source)[0]:
        return None
    axes = _axes(deal)  # type: ignore[arg-type]
    count = 1  # axes of ``start`` that hold the channels, behind the batch
    while count < len(axes) and math.prod(shape(start)[1 : 1 + count]) < shape(source)[1]:
        count += 1
    factors = shape(start)[1 : 1 + count]
    moved = axes[1 : 1 + count]
    if math.prod(factors) != shape(source)[1] or sorted(moved) != list(range(1, 1 + count)):
        return None
    if axes[0] != 0 or axes[1 + count :] != list(range(1 + count, len(axes))):
        return None
    order = torch.arange(shape(source)[1]).view(factors).permute([axis - 1 for axis in moved]).flatten()
    return Shuffle(source, start, end, order)


def _axes(deal: fx.Node) -> list[int]:
    """The permutation of axes of a transpose or permute."""
    rank = len(shape(deal))
    if deal.target is aten.permute.default:
        return [int(axis) % rank for axis in deal.args[1]]  # type: ignore[union-attr, arg-type]
    first, second = (int(axis) % rank for axis in deal.args[1:3])  # type: ignore[arg-type]
    axes = list(range(rank))
    axes[first], axes[second] = axes[second], axes[first]
    return axes
