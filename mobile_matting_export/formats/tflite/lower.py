"""Lowers a graph to a TFLite file with litert-torch: NHWC at both ends, named inputs and output."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.formats.tflite.channel_last import ChannelLast
from mobile_matting_export.formats.tflite.explain_failure import explain_failure
from mobile_matting_export.formats.tflite.native_ops import teach_litert_torch
from mobile_matting_export.formats.tflite.quantize import cast_weights_to_half
from mobile_matting_export.formats.tflite.shorten_names import shorten_names
from mobile_matting_export.formats.tflite.take_bytes import take_bytes

SIGNATURE = "matte"
"""Name of the one entry point that our files have."""

PRECISIONS = ("fp32", "fp16")


def emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite``: signature ``matte``, NHWC inputs, float32 or bytes, NHWC ``alpha`` and states.

    With ``fp16`` the weights of convolutions and linear layers are stored as half floats (see
    ``quantize.py``); inputs, output and arithmetic stay float32. Same graph, same bytes.

    Raises:
        ConversionError: ``precision`` is not offered, or litert-torch refuses a layer.
    """
    if precision not in PRECISIONS:
        raise ConversionError(f"TFLite files are written as {' or '.join(PRECISIONS)}, not as {precision}")
    target = folder / f"{stem}.tflite"
    if precision == "fp32":
        _convert(graph, target)
        return (target,)
    with tempfile.TemporaryDirectory(prefix=".fp32-", dir=folder) as scratch:
        full = Path(scratch) / target.name
        _convert(graph, full)
        return narrow((full,), precision, folder, stem)


def narrow(files: tuple[Path, ...], precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite`` from the fp32 file, which lies elsewhere: what ``emit`` writes in ``precision``.

    Raises:
        ConversionError: ``precision`` is not ``fp16``, or the weights cannot be stored so.
    """
    if precision != "fp16":
        raise ConversionError(f"an fp32 TFLite file is narrowed to fp16, not to {precision}")
    target = folder / f"{stem}.tflite"
    cast_weights_to_half(files[0], target)
    return (target,)


def _convert(graph: ExportGraph, target: Path) -> None:
    wrapper = ChannelLast(graph.module, tuple(graph.inputs), graph.outputs).eval()
    samples = {
        name: image.permute(0, 2, 3, 1).contiguous().to(torch.uint8 if name in graph.byte_inputs else torch.float32)
        for name, image in graph.inputs.items()
    }
    with held_output() as held:
        # importing it takes seconds and half a gigabyte, and prints
        import litert_torch

        teach_litert_torch()
        try:
            with torch.no_grad():
                litert_torch.signature(SIGNATURE, wrapper, sample_kwargs=samples).convert().export(str(target))
        except Exception as error:  # litert-torch, torch.export and MLIR each raise their own types
            failure = explain_failure(error, graph.module.graph)
            failure.add_note(f"what the converter printed:\n{held()[-2000:]}")
            raise failure from error
    if graph.byte_inputs:
        take_bytes(target, graph.byte_inputs)
    shorten_names(target)
