"""A graph in simulated int8 whose convolutions can learn, their weights counted in steps of 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

from mobile_matting_export.graph.surgery import add_constant, constant, set_args, shape
from mobile_matting_export.quantization.alter_frame import Frame
from mobile_matting_export.quantization.choose_range import choose_range, choose_threshold
from mobile_matting_export.quantization.fake_quantize import (
    LEVELS,
    Arithmetic,
    FakeInt8,
    has_int8_weights,
    output_axis,
    round_weight,
    rounded_maps,
    weight_scales,
)
from mobile_matting_export.quantization.histogram import collect_histograms
from mobile_matting_export.quantization.ranges import Method, Range

# a bias moves every pixel of a channel at once: it learns in smaller steps, of the channel's own range
_BIAS_STEP = 0.25
# ranges hardly move after so many frames, and are chosen more than once
_RANGED_BY = 24


class Student:
    """Learns what is in ``parameters``: by how many steps every weight and bias moves, all zero at first.

    Zero weights stay zero: they keep the columns of ``spread_columns`` apart. Box filters do not learn, nor do
    transposed convolutions with groups, nor what the runtime computes in float.

    Args:
        graph_module: a rewritten graph, unchanged.
        frames: to choose ranges by, at least one.
        method: how ranges are chosen.
        arithmetic: of the runtime.
    """

    def __init__(
        self, graph_module: fx.GraphModule, frames: Sequence[Frame], method: Method, arithmetic: Arithmetic
    ) -> None:
        self._graph = copy.deepcopy(graph_module)
        self._frames, self._method, self._arithmetic = frames[:_RANGED_BY], method, arithmetic
        self.convolutions = _prepare(self._graph, arithmetic)
        self._rounded = {node.name for node in rounded_maps(self._graph, arithmetic)}
        self._start: dict[str, torch.Tensor] = {}
        self._units: dict[str, torch.Tensor] = {}
        self._axes: dict[str, int] = {}
        peaks = self._peaks()
        for node in self.convolutions:
            name, bias, axis = *_stored(node), output_axis(node)
            assert axis is not None
            weight = self._graph.get_buffer(name)
            sides = [-1 if number == axis else 1 for number in range(weight.dim())]
            self._axes[name] = axis
            self._units[name] = weight_scales(weight, axis).view(sides) * (weight != 0)
            self._units[bias] = peaks[node.name] * (_BIAS_STEP / LEVELS)
            self._start |= {name: weight, bias: self._graph.get_buffer(bias)}
        self._moved = {name: torch.zeros_like(value) for name, value in self._start.items()}
        self._tensors: dict[str, torch.Tensor] = {}
        self._ranges: dict[str, Range] = {}
        self.refresh()
        self.choose_ranges()

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Steps moved, float32: an optimizer changes them in place; ``refresh`` must follow."""
        return list(self._moved.values())

    def refresh(self) -> None:
        """Take weights and biases from the parameters."""
        self._tensors = {}
        for name, start in self._start.items():
            value = start + self._units[name] * self._moved[name]
            if name in self._axes:
                value = round_weight(value, self._axes[name])
            self._tensors[name] = value.requires_grad_()

    def choose_ranges(self) -> None:
        """Choose the ranges of maps anew, by the float graph with the rounded weights."""
        if self._arithmetic == "dynamic":
            self._ranges = dict.fromkeys(self._rounded, Range(0.0, 0.0))
            return
        histograms = collect_histograms(
            lambda: ((name, values.numpy()) for name, values in self._watch(self._rounded, self._tensors))
        )
        choose = choose_range if self._arithmetic == "operations" else choose_threshold
        self._ranges = {name: choose(histogram, self._method) for name, histogram in histograms.items()}

    def teach(self, frame: Frame) -> torch.Tensor:
        """The float matte of the graph as it was, 1x1xHxW."""
        with torch.no_grad():
            return _alpha(self._graph(*frame))

    def matte(self, frame: Frame) -> torch.Tensor:
        """The matte in simulated int8, 1x1xHxW; gradients of it go to weights and biases."""
        return _alpha(FakeInt8(self._graph, self._ranges, self._arithmetic, self._tensors).run(*frame))

    def collect_gradients(self) -> None:
        """Give the parameters the gradients that weights and biases got since ``refresh``."""
        for name, moved in self._moved.items():
            gradient = self._tensors[name].grad
            moved.grad = None if gradient is None else gradient * self._units[name]

    def write(self, graph_module: fx.GraphModule) -> int:
        """Put the learnt weights, rounded, and biases into the graph that this one was made of; how many changed."""
        nodes = {node.name: node for node in graph_module.graph.nodes}
        for copied in self.convolutions:
            node = nodes[copied.name]
            weight, bias = (
                add_constant(graph_module, self._tensors[name], f"{node.name}_tuned_{kind}", node)
                for name, kind in zip(_stored(copied), ("weight", "bias"), strict=True)
            )
            set_args(graph_module, node, (node.args[0], weight, bias, *node.args[3:]))
        return len(self.convolutions)

    def _peaks(self) -> dict[str, torch.Tensor]:
        """Largest magnitude of every output channel of the convolutions."""
        found: dict[str, torch.Tensor] = {}
        for name, values in self._watch({node.name for node in self.convolutions}, {}):
            seen = values.abs().amax((0, 2, 3))
            found[name] = torch.maximum(found[name], seen) if name in found else seen
        return found

    def _watch(self, names: set[str], tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        for frame in self._frames:
            recorder = _Recorder(self._graph, names, tensors)
            with torch.no_grad():
                recorder.run(*frame)
            yield from recorder.found


class _Recorder(FakeInt8):
    """Float arithmetic with other tensors; keeps the results of the nodes named."""

    def __init__(self, graph_module: fx.GraphModule, names: set[str], tensors: dict[str, torch.Tensor]) -> None:
        super().__init__(graph_module, {}, "operations", tensors)
        self.names = names
        self.found: list[tuple[str, torch.Tensor]] = []

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if node.name in self.names:
            self.found.append((node.name, result))
        return result


def _prepare(graph_module: fx.GraphModule, arithmetic: Arithmetic) -> list[fx.Node]:
    """The convolutions that learn; each gets a bias where it had none."""
    found = []
    for node in graph_module.graph.nodes:
        axis = output_axis(node) if has_int8_weights(node, arithmetic) else None
        weight = None if axis is None else constant(graph_module, node.args[1])
        if axis is None or weight is None or _is_box(weight, axis):
            continue
        given = node.args[2] if len(node.args) > 2 else None
        if given is None:
            zeros = add_constant(graph_module, torch.zeros(shape(node)[1]), f"{node.name}_bias", node)
            set_args(graph_module, node, (*node.args[:2], zeros, *node.args[3:]))
        if given is None or constant(graph_module, given) is not None:
            found.append(node)
    graph_module.recompile()
    return found


def _is_box(weight: torch.Tensor, axis: int) -> bool:
    outputs = weight.transpose(0, axis).flatten(1)
    return outputs.shape[1] > 1 and bool((outputs == outputs[:, :1]).all())


def _stored(node: fx.Node) -> tuple[str, str]:
    """Names of the stored weight and bias."""
    weight, bias = node.args[1:3]
    assert isinstance(weight, fx.Node)
    assert isinstance(bias, fx.Node)
    return str(weight.target), str(bias.target)


def _alpha(result: Any) -> torch.Tensor:
    """The first result; others are new values of states."""
    return result[0] if isinstance(result, (tuple, list)) else result
