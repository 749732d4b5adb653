"""Round weights to 8 bits so that layers' outputs move least: each weight makes up for the errors of those before it.

Rounding to the nearest integer keeps each weight nearest; what counts is W x. With H the covariance of the inputs of
all taps (channel and kernel position) on calibration frames, the error of an output is (w - w') H (w - w')^T. Weights
are rounded one after another, those of the largest inputs first; the ones still to be rounded take up what is best
taken up, which the Cholesky factor U of the inverse of H says: after weight i they change by

    -(w[i] - w'[i]) / U[i, i] * U[i, i + 1:]

(Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, ICLR 2023.) What is
left of the mean goes into the bias. Each channel's largest weight keeps its integer, and with it the channel its scale:
whatever rounds the weights again, to the nearest, finds them on its grid and needs to know nothing of this.
Finds: convolutions without groups with stored weights.
Refuses: box filters, which runtimes know by equal weights; a zero weight stays zero.
Exact: no. In float, too, mattes move by what rounded weights move them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from mobile_matting_export.graph.ops import CONV, Conv, is_op
from mobile_matting_export.graph.surgery import add_constant, constant, set_args
from mobile_matting_export.quantization.alter_frame import Frame
from mobile_matting_export.quantization.fake_quantize import LEVELS, weight_scales
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

# of the mean variance, added to each tap's own: taps that hardly differ would take up errors without end
_DAMPING = 0.01
# places of a map whose inputs are looked at, evenly chosen: a covariance needs no more
_MOST_PLACES = 4096


@dataclasses.dataclass
class _Moments:
    """Sums over places: of taps' inputs, and of the products of every two."""

    places: int
    sums: torch.Tensor
    products: torch.Tensor

    @classmethod
    def of(cls, inputs: torch.Tensor) -> _Moments:
        """``inputs``: taps x places, float32."""
        return cls(inputs.shape[1], inputs.sum(1, dtype=torch.float64), (inputs @ inputs.T).double())

    def add(self, other: _Moments) -> None:
        self.places += other.places
        self.sums += other.sums
        self.products += other.products

    @property
    def means(self) -> torch.Tensor:
        return self.sums / self.places

    @property
    def covariance(self) -> torch.Tensor:
        return self.products / self.places - torch.outer(self.means, self.means)


def round_by_error_feedback(frames: Sequence[Frame]) -> Rewrite:
    """The rewrite for inputs that layers have on ``frames``: positional inputs of the graph, one tuple a frame."""
    return Rewrite(
        "round_by_error_feedback",
        "weights rounded to 8 bits so that outputs of layers move least",
        lambda graph_module: _apply(graph_module, frames),
        exact=False,
    )


def _apply(graph_module: fx.GraphModule, frames: Sequence[Frame]) -> Outcome:
    found = [node for node in graph_module.graph.nodes if _is_rounded(graph_module, node)]
    watcher = _Watcher(graph_module, found)
    with torch.no_grad():
        for frame in frames:
            watcher.run(*frame)
    for node in found:
        conv = Conv.of(node)
        weight, bias = constant(graph_module, conv.weight), constant(graph_module, conv.bias)
        moments = watcher.seen[node]
        assert weight is not None
        flat = weight.flatten(1).double()
        rounded = round_rows(flat, weight_scales(weight, 0).double(), moments.covariance)
        shift = (flat - rounded) @ moments.means + (0 if bias is None else bias.double())
        stored = add_constant(graph_module, rounded.view_as(weight).float(), f"{node.name}_fed_back_weight", node)
        moved = add_constant(graph_module, shift.float(), f"{node.name}_fed_back_bias", node)
        set_args(graph_module, node, dataclasses.replace(conv, weight=stored, bias=moved).args_for(CONV))
    return Outcome(len(found))


def _is_rounded(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if not is_op(node, CONV):
        return False
    conv = Conv.of(node)
    weight = constant(graph_module, conv.weight)
    known_bias = conv.bias is None or constant(graph_module, conv.bias) is not None
    if weight is None or not known_bias or conv.groups != 1 or isinstance(conv.padding, str):
        return False
    rows = weight.flatten(1)
    return not (rows.shape[1] > 1 and bool((rows == rows[:, :1]).all()))


class _Watcher(fx.Interpreter):
    """The float graph; gathers the moments of what the nodes named read."""

    def __init__(self, graph_module: fx.GraphModule, watched: Sequence[fx.Node]) -> None:
        super().__init__(graph_module)
        self.watched = set(watched)
        self.seen: dict[fx.Node, _Moments] = {}

    def run_node(self, node: fx.Node) -> Any:
        if node in self.watched:
            (values, weight, *_), _ = self.fetch_args_kwargs_from_env(node)
            moments = _Moments.of(_places(values, weight, Conv.of(node)))
            if node in self.seen:
                self.seen[node].add(moments)
            else:
                self.seen[node] = moments
        return super().run_node(node)


def _places(values: torch.Tensor, weight: torch.Tensor, conv: Conv) -> torch.Tensor:
    """What the convolution multiplies its weights with: taps x places."""
    assert not isinstance(conv.padding, str)
    inputs = F.unfold(values, weight.shape[2:], conv.dilation, conv.padding, conv.stride)[0]
    return inputs[:, :: -(-inputs.shape[1] // _MOST_PLACES)]


def round_rows(rows: torch.Tensor, scales: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """``rows`` (outputs x taps, float64) on the grid of ``scales``, one a row; errors in ``covariance`` are small."""
    order = covariance.diagonal().argsort(descending=True, stable=True)
    taps = len(order)
    spread = covariance.diagonal().mean()
    damped = covariance[order][:, order] + (_DAMPING * spread if spread > 0 else 1.0) * torch.eye(taps).double()
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, numbers = rows[:, order], torch.empty_like(rows)
    given = left / scales[:, None]
    fixed = (given == 0) | (given.abs() >= given.abs().amax(1, keepdim=True))
    for tap in range(taps):
        nearest = torch.where(fixed[:, tap], given[:, tap], left[:, tap] / scales).round().clamp(-LEVELS, LEVELS)
        numbers[:, tap] = nearest
        error = (left[:, tap] - nearest * scales) / factor[tap, tap]
        left[:, tap:] -= error[:, None] * factor[tap, tap:]
    rounded = torch.empty_like(rows)
    rounded[:, order] = numbers * scales[:, None]
    return rounded
