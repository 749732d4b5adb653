"""Presents an NCHW graph to litert-torch as an NHWC module, in spellings that it converts correctly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.traceback import preserve_node_meta

from mobile_matting_export.formats.tflite.native_ops import spell_prelu

aten = torch.ops.aten


class ChannelLast(nn.Module):
    """An NCHW graph behind NHWC keyword inputs and NHWC outputs ``{"alpha": ...}``.

    The graph runs node by node in an interpreter that passes each node's provenance on, so that the
    names of the file's tensors carry the PyTorch module path; calling the graph module would lose it.
    """

    def __init__(self, graph: fx.GraphModule, names: Sequence[str], outputs: Sequence[str] = ("alpha",)) -> None:
        super().__init__()
        self.network = graph  # "graph" would hide the exported module's own attribute
        self.names = tuple(names)
        self.outputs = tuple(outputs)

    def forward(self, **images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take 1xHxWxC float32 or uint8 images under the graph's input names, return ``alpha`` 1xHxWx1 and states."""
        given = [images[name] for name in self.names]
        ordered = [image.float() if image.dtype == torch.uint8 else image for image in given]
        with preserve_node_meta():
            results = _Speller(self.network, ordered).run_graph()
        return {name: _to_channel_last(result) for name, result in zip(self.outputs, results, strict=True)}


class _Speller(fx.Interpreter):
    """Runs an NCHW graph on NHWC images, with four operators spelled for litert-torch 0.10.

    - ``cat`` of inputs: concatenated before the change of layout. Behind it, litert-torch counts two
      transposes against one and leaves three in the file.
    - constant minus ``x`` becomes ``x * -1 + constant``: litert-converter 0.5 turns the first into
      ``x - constant`` when ``x`` comes from a convolution, pooling, resize, ReLU, or a sum or
      product with a constant. It does so silently; the result of the new spelling is the same to the bit.
    - constant divided by ``x`` becomes ``x ** -1 * constant``, for the same reason.
    - PReLU of a map becomes an operator of ours, which is written as PRELU; see native_ops.py.
    """

    def __init__(self, graph: fx.GraphModule, images: Sequence[torch.Tensor]) -> None:
        super().__init__(graph)
        self._images = tuple(images)
        self._inputs = tuple(_to_channel_first(image) for image in images)
        self._constants = _constant_nodes(graph.graph)
        self._node: fx.Node | None = None

    def run_graph(self) -> tuple[torch.Tensor, ...]:
        """Return the graph's results, NCHW."""
        result = self.run(*self._inputs)
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, remembering it for ``call_function``."""
        self._node = n
        return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operator in litert-torch's spelling."""
        if target is aten.prelu.default and args[0].dim() == 4:
            return spell_prelu(*args)
        if target is aten.cat.default and args[1:] == (1,):
            images = [image for tensor in args[0] for image in self._image_of(tensor)]
            if len(images) == len(args[0]):
                return _to_channel_first(torch.cat(images, dim=3))
        if target in (aten.rsub.Scalar, aten.rsub.Tensor) and self._is_constant(1):
            return args[0] * -_alpha(args[2:], kwargs) + args[1]
        if target is aten.sub.Tensor and self._is_constant(0) and not self._is_constant(1):
            return args[1] * -_alpha(args[2:], kwargs) + args[0]
        if target is aten.reciprocal.default:
            return torch.pow(args[0], -1.0)
        if target is aten.div.Tensor and self._is_constant(0) and not self._is_constant(1):
            return torch.pow(args[1], -1.0) * args[0]
        return super().call_function(target, args, kwargs)

    def _image_of(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        return [image for image, own in zip(self._images, self._inputs, strict=True) if own is tensor]

    def _is_constant(self, position: int) -> bool:
        argument = self._node.args[position] if self._node else None
        return argument in self._constants if isinstance(argument, fx.Node) else True


def _constant_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on no input: parameters, and what is computed from them alone."""
    constants: set[fx.Node] = set()
    for node in graph.nodes:
        computed = node.op == "call_function" and constants.issuperset(node.all_input_nodes)
        if node.op == "get_attr" or computed:
            constants.add(node)
    return constants


def _alpha(rest: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """The factor on the subtrahend: ``rsub(x, other, alpha) = other - alpha * x``."""
    return rest[0] if rest else kwargs.get("alpha", 1)


def _to_channel_first(image: torch.Tensor) -> torch.Tensor:
    return image.permute(0, 3, 1, 2)


def _to_channel_last(image: torch.Tensor) -> torch.Tensor:
    return image.permute(0, 2, 3, 1)
