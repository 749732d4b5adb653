"""A channel shuffle goes when what is around it can have its channels in another order.

conv(x[:, order], W) = conv(x, W') with the columns of W permuted; conv(x, W)[:, order] has its rows permuted;
biases, PReLU slopes and depthwise kernels likewise. ``graph.channel_orders`` follows the order through everything
that hands it on, first back to what makes the channels, then on to what reads them. Weights only change places,
nothing becomes denser.
Finds: view, transpose, view; ``channel_shuffle``; indexing by a stored permutation.
Refuses: orders that would mix the groups of a convolution with groups on both sides (what shuffles are for),
channels that leave the network or are taken apart, operators of which nothing is known.
Exact: yes (a convolution sums its inputs in another order).
"""

from __future__ import annotations

from torch import fx

from mobile_matting_export.graph.channel_orders import Orders, StuckError
from mobile_matting_export.graph.channel_shuffle import Shuffle, shuffles_of
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.reorder_channels import reorder_channels
from mobile_matting_export.graph.surgery import tidy
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    before = len(shuffles_of(graph_module))
    while True:
        refusals: list[str] = []
        for shuffle in shuffles_of(graph_module):
            found = _orders_without(graph_module, shuffle)
            if isinstance(found, Orders):
                reorder_channels(graph_module, found)
                tidy(graph_module)
                break  # one may take others with it
            refusals.append(found)
        else:
            return Outcome(before - len(shuffles_of(graph_module)), tuple(refusals))


def _orders_without(graph_module: fx.GraphModule, shuffle: Shuffle) -> Orders | str:
    """The orders in which ``shuffle`` does nothing, or why there are none."""
    reasons = []
    for node, order in ((shuffle.source, shuffle.order), (shuffle.end, shuffle.order.argsort())):
        found = Orders(graph_module, shuffles_of(graph_module))
        try:
            found.solve(node, order)
        except StuckError as reason:
            reasons.append(str(reason))
        else:
            return found
    before, behind = reasons
    return f"{describe(shuffle.end)}: the channel shuffle stays; before it, {before}; behind it, {behind}"


ABSORB_CHANNEL_SHUFFLE = Rewrite(
    name="absorb_channel_shuffle",
    why="a shuffle is a copy of the map with five dimensions, which phones' GPUs refuse; permuted weights cost nothing",
    apply=_apply,
)
