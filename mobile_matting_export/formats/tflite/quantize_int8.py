"""Makes an int8 TFLite file of the fp32 one, with ranges and a plan of ours, and reads back that the plan was kept.

ai-edge-quantizer does the arithmetic: weights per channel and symmetric, activations per tensor with a zero point.
What it passes over in silence is compared afterwards: a rule that met nothing, an operation left in float or made
int8 against the plan, one that it has no name for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import ConversionError, PlanRefused
from mobile_matting_export.formats.tflite.keep_ends import require_same_ends
from mobile_matting_export.formats.tflite.list_int8_layers import can_be_int8, layer_name
from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph, read_file
from mobile_matting_export.formats.tflite.record_tensors import record_tensors
from mobile_matting_export.formats.tflite.run_quantizer import Statistics, match_layers, require_known, run_quantizer
from mobile_matting_export.quantization.ranges import Range

_BETWEEN = ("QUANTIZE", "DEQUANTIZE")


def observe(files: tuple[Path, ...], frames: Sequence[Mapping[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and values of every tensor that the fp32 file computes, frame by frame, its inputs included.

    Args:
        files: the fp32 file.
        frames: input name -> float32 1xCxHxW.

    Raises:
        UsageError: the inputs do not fit the file, or the runtime refuses it.
    """
    tensors = read_file(files[0]).main.tensors
    for frame in frames:
        for index, values in record_tensors(files[0], frame).items():
            if not tensors[index].constant and tensors[index].dtype == "FLOAT32":
                yield tensors[index].name, values


def quantize(
    files: tuple[Path, ...], ranges: Mapping[str, Range], keep_float: frozenset[str], folder: Path, stem: str
) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite``: int8 but for the layers in ``keep_float``; inputs and outputs stay float32.

    Same inputs, same bytes.

    Args:
        files: the fp32 file, in another folder.
        ranges: tensor name -> range of its values, for all that ``observe`` yields.
        keep_float: names of layers, see ``list_int8_layers``, that are computed in float32.
        folder: existing.
        stem: of the new file's name.

    Raises:
        UsageError: ``keep_float`` names a layer that is not there.
        PlanRefused: the quantizer refuses the plan, or did not keep to it.
        ConversionError: a tensor has no range, or the quantizer fails in another way.
    """
    source = read_file(files[0]).main
    known = {layer_name(source, operator) for operator in source.operators if can_be_int8(source, operator)}
    require_known(keep_float, known)
    target = folder / f"{stem}.tflite"

    def configure(work: Any) -> None:
        from ai_edge_quantizer import qtyping, recipe
        from ai_edge_quantizer.algorithm_manager import AlgorithmName

        names, float_ = qtyping.TFLOperationName, AlgorithmName.NO_QUANTIZE
        work.load_quantization_recipe(recipe.static_wi8_ai8())
        for end in (names.INPUT, names.OUTPUT):
            work.update_quantization_recipe(".*", end, algorithm_key=float_)
        chosen = match_layers(source, keep_float)
        if chosen is not None:
            work.update_quantization_recipe(chosen, names.ALL_SUPPORTED, algorithm_key=float_)

    statistics = _as_statistics(source, ranges)
    run_quantizer(files[0], target, configure, statistics, lambda made: check_plan(source, made, known - keep_float))
    return (target,)


def _as_statistics(source: Subgraph, ranges: Mapping[str, Range]) -> Statistics:
    computed = {index for operator in source.operators for index in operator.outputs} | set(source.inputs)
    found = {}
    for index in sorted(computed):
        tensor = source.tensors[index]
        if tensor.dtype != "FLOAT32":
            continue
        if tensor.name not in ranges:
            raise ConversionError(f"the tensor {tensor.name} has no range: it was not observed on calibration pictures")
        chosen = ranges[tensor.name]
        found[tensor.name] = {
            end: np.array([[value]], np.float32) for end, value in (("min", chosen.low), ("max", chosen.high))
        }
    return found


def check_plan(source: Subgraph, made: Subgraph, planned: set[str]) -> None:
    """Compare the written file with the plan: its inputs, outputs and operations, and their types.

    Args:
        source: the fp32 graph.
        made: the graph that was written.
        planned: names of the layers to be int8.

    Raises:
        PlanRefused: an operation was lost or added, is int8 against the plan, or float against it, or the inputs or
            outputs are others.
    """
    planned_ops = [operator for operator in source.operators if not _widens_bytes(source, operator)]
    kept = [operator for operator in made.operators if operator.kind not in _BETWEEN]
    before = [operator.kind for operator in planned_ops]
    if [operator.kind for operator in kept] != before:
        raise PlanRefused(
            f"ai-edge-quantizer changed the operations of the file ({len(before)} before, {len(kept)} after); "
            "convert to fp16, and report it with the network's file"
        )
    for old, new in zip(planned_ops, kept, strict=True):
        name = layer_name(source, old)
        is_int8 = _is_int8(made, new)
        if is_int8 != (name in planned):
            raise PlanRefused(
                f"the plan has {name} ({old.kind}) in {'int8' if name in planned else 'float'}, ai-edge-quantizer "
                f"wrote it in {'int8' if is_int8 else 'float'}; keep its neighbours in float, or use fp16"
            )
    require_same_ends(source, made)


def _widens_bytes(graph: Subgraph, operator: Operator) -> bool:
    """The DEQUANTIZE behind pixels that are taken as bytes, which an fp32 file has, too."""
    return operator.kind == "DEQUANTIZE" and graph.tensors[operator.inputs[0]].dtype == "UINT8"


def _is_int8(graph: Subgraph, operator: Operator) -> bool:
    return any(graph.tensors[index].dtype == "INT8" for index in operator.outputs)
