"""What a file format must be able to do: write a rewritten graph, run the file, count its ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mobile_matting_export.errors import ConversionError

if TYPE_CHECKING:  # a process that only runs a file needs no torch
    import numpy as np
    import torch
    from torch import fx

    from mobile_matting_export.quantization.fake_quantize import Arithmetic
    from mobile_matting_export.quantization.histogram import Histogram
    from mobile_matting_export.quantization.io_kind import IoKind
    from mobile_matting_export.quantization.layer import QuantizableLayer
    from mobile_matting_export.quantization.ranges import Method, Range

SMALL_WEIGHT = 1024
"""fp16 files keep weights of at most so many elements in float32. A scale per channel or a first
convolution moves every pixel the same way when it is rounded, and costs next to nothing: trained
SegMattingNet errs by at most 0.0094 instead of 0.1275 (41 photographs), its file grows by 0.06 %."""


@dataclass(frozen=True)
class ExportGraph:
    """A rewritten network, ready to be lowered.

    ``module`` is an FX graph of ATen operators: positional float32 NCHW inputs in the order of
    ``inputs`` (name -> example of batch 1, which also fixes the size), and one float32 tensor
    1x1xHxW ``alpha`` in [0, 1] as its result, or a tuple of it and further 1xCxHxW float32 tensors, new values of
    states; ``outputs`` names them all, in order. The file takes the inputs named in ``byte_inputs`` as uint8;
    their examples and the graph hold the same numbers, 0..255, as floats.

    Raises:
        ConversionError: the examples are not those of the graph's inputs, by name and order, or one is
            no float32 frame of shape 1xCxHxW, or is called as an output, or there are more or fewer results than
            ``outputs`` says.
    """

    module: fx.GraphModule
    inputs: Mapping[str, torch.Tensor]
    byte_inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("alpha",)

    def __post_init__(self) -> None:
        names = [str(node.target) for node in self.module.graph.nodes if node.op == "placeholder"]
        if names != list(self.inputs):
            raise ConversionError(
                f"the graph takes the inputs {', '.join(names) or 'none'}, but there are examples for "
                f"{', '.join(self.inputs) or 'none'}; give one example per input, in order"
            )
        for name, example in self.inputs.items():
            # by its text: this module must not import torch
            if str(example.dtype) != "torch.float32" or example.ndim != 4 or example.shape[0] != 1:
                raise ConversionError(
                    f"input {name!r} is {example.dtype} of shape {tuple(example.shape)}; files are made for one "
                    "float32 frame of shape 1xCxHxW"
                )
        if not set(self.byte_inputs) <= set(self.inputs):
            raise ConversionError(f"bytes for {', '.join(self.byte_inputs)}, but the inputs are {', '.join(names)}")
        for name in self.outputs:
            if name in self.inputs:
                raise ConversionError(f"an input cannot be called {name!r}, which is the output's name; rename it")
        results = [node.args[0] for node in self.module.graph.nodes if node.op == "output"]
        count = sum(len(result) if isinstance(result, (tuple, list)) else 1 for result in results)
        if count != len(self.outputs):
            raise ConversionError(f"the graph returns {count} tensors where {', '.join(self.outputs)} are expected")


class Session(Protocol):
    """An opened artifact. Layout is NCHW here, whatever the file's own layout.

    ``device`` says for people what computes: ``cpu (XNNPACK)``, ``vulkan: NAME, fp16 arithmetic``.
    """

    device: str

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one frame: input name -> float32 1xCxHxW, returns ``{"alpha": 1x1xHxW float32}``.

        New values of states stand beside it, under their names, float32 1xCxHxW.
        A file that takes bytes gets them from here: its image holds whole numbers from 0 to 255.
        """
        ...

    def close(self) -> None:
        """Release the runtime's memory."""
        ...


@dataclass(frozen=True)
class Int8:
    """One way in which a format computes in int8; plain functions.

    ``name`` stands in recipes. ``list_layers(files, graph)``: what can be int8 of fp32 files that were made of this
    graph. ``always_float(files)``: names among them that are not worth it in any network. ``observe(files, frames)``
    yields name and values of every tensor that needs a range, frame by frame. ``choose(histogram, method)``: the range
    of one, asymmetric where the format has zero points. ``quantize(files, ranges, keep_float, folder, stem,
    bias_shift)`` writes the int8 files into another folder and raises ``ConversionError`` where the plan cannot be
    kept. ``arithmetic``: what of a graph the runtime rounds, see ``quantization/fake_quantize.py``.
    ``quantize_ends(files, ranges, io)`` makes image and alpha of what ``quantize`` wrote 8 bits wide, in place; None
    where that is not offered. ``correct_biases(files, ranges, frames)`` gives the ``bias_shift``, layer to a number an
    output channel; None where that is not offered.
    """

    name: str
    list_layers: Callable[[tuple[Path, ...], fx.GraphModule], tuple[QuantizableLayer, ...]]
    always_float: Callable[[tuple[Path, ...]], frozenset[str]]
    observe: Callable[[tuple[Path, ...], Sequence[Mapping[str, np.ndarray]]], Iterator[tuple[str, np.ndarray]]]
    choose: Callable[[Histogram, Method], Range]
    quantize: Callable[
        [tuple[Path, ...], Mapping[str, Range], frozenset[str], Path, str, Mapping[str, np.ndarray]], tuple[Path, ...]
    ]
    arithmetic: Arithmetic
    correct_biases: (
        Callable[[tuple[Path, ...], Mapping[str, Range], Sequence[Mapping[str, np.ndarray]]], Mapping[str, np.ndarray]]
        | None
    ) = None
    quantize_ends: Callable[[tuple[Path, ...], Mapping[str, Range], IoKind], None] | None = None


@dataclass(frozen=True)
class Format:
    """One file format: plain functions, imported lazily where they need heavy packages.

    ``emit(graph, precision, folder, stem)`` writes the model files into ``folder`` (existing,
    private to this call) under names made of ``stem`` and returns them; it raises
    ``ConversionError`` with a remedy. ``open(files, accelerator)`` loads them in the format's own
    runtime; ``accelerator`` is ``cpu``, ``gpu``, or ``gpu-fp32`` where the runtime lets a GPU compute
    in float32. ``count_ops(files)`` maps an op type to its number. ``layout`` is the layout of the
    file's own image input. ``tools`` are the distributions whose versions belong in the manifest.
    ``input_refusals`` maps ways a picture may enter (``--input``) to why this format does not offer them.
    ``narrow(files, precision, folder, stem)`` makes of the fp32 files, in another folder, what ``emit`` would
    write in ``precision``, to the byte, where lowering takes long enough to be done once for all precisions.
    ``int8()`` are its ways to compute in 8 bits, the usual one first. ``weights_only(files, folder, stem)`` writes
    files with 8-bit weights and float arithmetic. ``read_ends(files)`` maps the inputs and outputs that are 8 bits wide
    to their ``dtype`` and ``quantization`` as the manifest has them, where the format has such.
    """

    name: str
    layout: str
    tools: tuple[str, ...]
    emit: Callable[[ExportGraph, str, Path, str], tuple[Path, ...]]
    open: Callable[[tuple[Path, ...], str], Session]
    count_ops: Callable[[tuple[Path, ...]], dict[str, int]]
    input_refusals: Mapping[str, str] = field(default_factory=dict)
    narrow: Callable[[tuple[Path, ...], str, Path, str], tuple[Path, ...]] | None = None
    int8: Callable[[], tuple[Int8, ...]] = tuple
    weights_only: Callable[[tuple[Path, ...], Path, str], tuple[Path, ...]] | None = None
    read_ends: Callable[[tuple[Path, ...]], Mapping[str, Mapping[str, Any]]] | None = None
