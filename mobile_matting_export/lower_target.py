"""Lower a prepared network for one row of the table: rewrite, convert, and what the row does to the files last."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.lower_once import Lowering, lower_once
from mobile_matting_export.prepare_network import Prepared
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.second_opinion import emit_by_onnx2tf
from mobile_matting_export.targets import Target


def lower_target(
    prepared: Prepared, cache: ResultCache | None, target: Target, precision: str, folder: Path, stem: str
) -> tuple[Path, ...]:
    """Write the row's files in fp32, fp16 or w8 into ``folder`` under names made of ``stem``.

    Raises:
        ConversionError: a rewrite or the converter failed.
    """
    network, (module, _) = prepared.network, prepared.for_target(target)
    graph = ExportGraph(module, network.examples(), network.byte_inputs, network.outputs)
    if precision == "w8":
        return _lower_weights_only(prepared, cache, target, folder, stem)
    files = lower_once(cache, _lowering(target, prepared.job.backend), graph, precision, folder, stem)
    if target.finish is not None:
        target.finish(files)
    return files


def _lower_weights_only(
    prepared: Prepared, cache: ResultCache | None, target: Target, folder: Path, stem: str
) -> tuple[Path, ...]:
    assert target.format.weights_only is not None  # rows with w8 have it
    with tempfile.TemporaryDirectory(prefix=".fp32-", dir=folder) as scratch:
        full = lower_target(prepared, cache, target, "fp32", Path(scratch), stem)
        return target.format.weights_only(full, folder, stem)


def _lowering(target: Target, backend: str) -> Lowering:
    if backend == "onnx2tf":
        return Lowering(backend, emit_by_onnx2tf)
    return Lowering(target.format.name, target.format.emit, target.format.narrow)
