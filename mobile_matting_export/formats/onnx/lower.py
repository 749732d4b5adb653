"""Write a graph as an ONNX model: export, simplify, strip what differs between machines, check."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.graph.ops import AVG_POOL, argument, is_op
from mobile_matting_export.graph.provenance import describe_place, module_path, nodes_of

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto
    from torch import nn

OPSET = 17
# "Exporting the operator 'aten::erfinv' to ONNX opset version 17 is not supported"
_OPERATOR = re.compile(r"operator '(aten::\w+)'")


def emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``<stem>.onnx`` (opset 17, float32, NCHW, batch 1) into ``folder`` and return it.

    Inputs and outputs carry the names of the graph's; an input taken as bytes is uint8, and a
    Cast stands behind it. The same graph gives the
    same bytes: descriptions, source paths and metadata are stripped.

    Raises:
        ConversionError: an operator has no ONNX form (named), or the simplified model fails its checks.
        UsageError: ``precision`` is not ``fp32``; the consumers of an interchange file narrow it themselves.
    """
    if precision != "fp32":
        raise UsageError(f"the onnx target is an interchange file in fp32, not {precision!r}; drop --precision")
    _refuse_silent_errors(graph)
    model = _simplify(_export(graph, folder))
    _strip(model)
    _check(model, graph)
    path = folder / f"{stem}.onnx"
    draft = path.with_suffix(".onnx.part")
    draft.write_bytes(model.SerializeToString(deterministic=True))
    draft.replace(path)
    return (path,)


def _refuse_silent_errors(graph: ExportGraph) -> None:
    for node in graph.module.graph.nodes:
        if node.op == "placeholder" and not node.users:
            raise ConversionError(
                f"input {str(node.target)!r} is not used by the network; drop it, ONNX would lose it anyway"
            )
        if is_op(node, AVG_POOL) and argument(node, 6, "divisor_override") is not None:
            # measured: the exporter drops it without a word
            raise ConversionError(
                f"average pooling {module_path(node)!r} has divisor_override, which ONNX lacks; scale the result"
            )


def _export(graph: ExportGraph, folder: Path) -> ModelProto:
    import onnx
    import torch

    # beside the result: a disk that is full is then the one the caller named
    with tempfile.TemporaryDirectory(prefix=".exported-", dir=folder) as scratch:
        path = Path(scratch) / "exported.onnx"
        try:
            with torch.no_grad(), warnings.catch_warnings(), held_output():
                # the exporter's C++ half prints the graph on every refusal, to stdout if it may: that is
                # buffered, and would come out behind the block
                torch._C._jit_set_onnx_log_output_stream("stderr")
                # deprecated, but as exact as its successor on every network measured, and faster
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx")
                torch.onnx.export(
                    *_called(graph),
                    path,
                    input_names=list(graph.inputs),
                    output_names=list(graph.outputs),
                    opset_version=OPSET,
                    dynamo=False,
                )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            named = _OPERATOR.search(reason)
            where = describe_place(nodes_of(graph.module.graph, named[1])) if named else ""
            raise ConversionError(
                f"the network has no ONNX form at opset {OPSET}{where}: {reason}; write that operator differently"
            ) from error
        return onnx.load(path)


def _called(graph: ExportGraph) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """What to export, and the examples to call it with."""
    import torch
    from torch import nn

    if not graph.byte_inputs:
        return graph.module.eval(), tuple(graph.inputs.values())

    class TakesBytes(nn.Module):
        def forward(self, *images: torch.Tensor) -> Any:
            return graph.module(*(image.float() for image in images))

    examples = graph.inputs.items()
    return TakesBytes().eval(), tuple(
        value.to(torch.uint8) if name in graph.byte_inputs else value for name, value in examples
    )


def _simplify(model: ModelProto) -> ModelProto:
    import onnxsim

    try:
        with held_output():  # it reports its check on stdout
            simplified, same = onnxsim.simplify(model, check_n=1)
    except Exception as error:  # the library raises bare C++ errors of any type
        raise ConversionError(
            f"onnxsim failed on the exported model: {error}; check with another version of onnxsim"
        ) from error
    if not same:
        raise ConversionError(
            "onnxsim changed the results of the exported model on random input, so nothing was written; "
            "convert with another version of onnxsim"
        )
    return simplified


def _strip(model: ModelProto) -> None:
    """Remove what says how the file was made and not what it computes."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *values, *graph.node, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    # the name repeats the Python class that happened to be exported
    model.graph.name = "matting"


def _check(model: ModelProto, graph: ExportGraph) -> None:
    import onnx

    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"the exported model is not valid ONNX: {error}") from error
    names = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    if names != (list(graph.inputs), list(graph.outputs)):
        raise ConversionError(
            f"the exported model has inputs {names[0]} and outputs {names[1]}, expected {list(graph.inputs)} "
            f"and {list(graph.outputs)}; use every input, and return every state anew"
        )
