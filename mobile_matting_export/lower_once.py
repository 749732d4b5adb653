"""Lower a graph once: files made of the same graph by the same tools are taken from the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from mobile_matting_export.fingerprint import digest, environment, graph_state
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.result_cache import ResultCache

# in the cache files are called so, with the suffixes that the format gives them
_STEM = "model"


@dataclass(frozen=True)
class Lowering:
    """A converter: ``emit`` and ``narrow`` as those of ``Format``; ``name`` tells it from others of its format."""

    name: str
    emit: Callable[[ExportGraph, str, Path, str], tuple[Path, ...]]
    narrow: Callable[[tuple[Path, ...], str, Path, str], tuple[Path, ...]] | None = None


def lower_once(
    cache: ResultCache | None, lowering: Lowering, graph: ExportGraph, precision: str, folder: Path, stem: str
) -> tuple[Path, ...]:
    """Write the model files into ``folder`` under names made of ``stem``, the same bytes as ``lowering.emit`` writes.

    Where there is a cache and the lowering can narrow, the fp32 files are made and kept first.

    Raises:
        ConversionError: the converter failed; nothing is kept then.
    """
    if cache is None:
        return lowering.emit(graph, precision, folder, stem)
    made_by = (lowering.name, f"{lowering.emit.__module__}.{lowering.emit.__qualname__}")
    key = digest("lowered", environment(), *made_by, precision, _inputs(graph), graph_state(graph.module))
    kept = cache.fetch(key, folder)
    if kept is not None:
        return tuple(file.replace(folder / f"{stem}{file.name.removeprefix(_STEM)}") for file in kept)
    if precision == "fp32" or lowering.narrow is None:
        files = lowering.emit(graph, precision, folder, stem)
    else:
        # beside the result: a disk that is full is then the one the caller named
        with tempfile.TemporaryDirectory(prefix=".fp32-", dir=folder) as scratch:
            full = lower_once(cache, lowering, graph, "fp32", Path(scratch), stem)
            files = lowering.narrow(full, precision, folder, stem)
    cache.keep(key, {f"{_STEM}{file.name.removeprefix(stem)}": file for file in files})
    return files


def _inputs(graph: ExportGraph) -> str:
    """All of the graph but its module: shapes of the examples, and what else is said of the inputs."""
    rest = {one.name: getattr(graph, one.name) for one in fields(graph) if one.name not in ("module", "inputs")}
    return repr(({name: tuple(example.shape) for name, example in graph.inputs.items()}, rest))
