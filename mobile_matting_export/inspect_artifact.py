"""Inspects a file: reads its graph, judges it by every backend's rules, estimates its memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_matting_export.artifact import MANIFEST, Artifact, read_artifact
from mobile_matting_export.delegates.estimate_memory import estimate_memory
from mobile_matting_export.delegates.judge_graph import find_costs, judge_all
from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.param import MAGIC
from mobile_matting_export.formats.ncnn.read_graph import read_graph as read_ncnn
from mobile_matting_export.formats.tflite.read_file import IDENTIFIER
from mobile_matting_export.formats.tflite.read_graph import read_graph as read_tflite
from mobile_matting_export.inspection import BackendReport, Graph, Hazard, Inspection

if TYPE_CHECKING:  # brings torch, which files alone do not need
    from mobile_matting_export.networks.spec import ImageSpec

_NO_PICTURE = (
    "hazards of half precision are not looked for: the file does not say how a picture enters it, and no manifest "
    "beside it does; --mean and --scale say it"
)


def inspect_artifact(path: Path, size: tuple[int, int] | None = None, image: ImageSpec | None = None) -> Inspection:
    """Inspect an artifact's folder, a ``.tflite`` file, or an ncnn ``.param`` with the ``.bin`` beside it.

    Args:
        path: the folder or file, ours or a stranger's.
        size: height and width of an ncnn network's input where its file does not state them.
        image: how a picture enters a ``.tflite`` file without a manifest, which hazards are looked for with.

    Raises:
        UsageError: nothing there, a damaged file, or one of another format; ``image`` where it says nothing.
    """
    title, files = _find_files(path)
    graph = _read(files, size)
    if image is not None and (path.is_dir() or graph.format != "tflite"):
        known = "its manifest says it" if path.is_dir() else "hazards are looked for in .tflite files only"
        raise UsageError(f"--mean, --scale and --color say how a picture enters {path}, and {known}: drop them")
    hazards = _hazards(path, graph, image)
    if hazards is None:
        graph = replace(graph, notes=(*graph.notes, _NO_PICTURE))
    return Inspection(
        title=title,
        files=tuple(map(str, files)),
        bytes=sum(file.stat().st_size for file in files),
        graph=graph,
        backends=tuple(_with_caveat(backend, graph, files) for backend in judge_all(graph)),
        memory=estimate_memory(graph),
        remarks=find_costs(graph),
        hazards=hazards or (),
    )


def _with_caveat(backend: BackendReport, graph: Graph, files: tuple[Path, ...]) -> BackendReport:
    if graph.format != "ncnn" or len(files) > 1:
        return backend
    missing = files[0].with_suffix(".bin").name
    return replace(backend, caveat=f"judged by the .param alone, which runs nowhere without {missing}")


def _hazards(path: Path, graph: Graph, image: ImageSpec | None) -> tuple[Hazard, ...] | None:
    """Those of an artifact, or of a file; None where nobody knows how a picture enters it."""
    if graph.format != "tflite":
        return ()
    artifact = _artifact_of(path)
    if artifact is None and image is None:
        return None
    # needs torch, too
    from mobile_matting_export.predict_hazards import predict_file_hazards, predict_hazards

    if image is not None:
        return predict_file_hazards(path, graph, image)
    return None if artifact is None else predict_hazards(artifact)


def _artifact_of(path: Path) -> Artifact | None:
    """The artifact that ``path`` is, or that it is the file of."""
    if path.is_dir():
        return read_artifact(path)
    if not (path.parent / MANIFEST).is_file():
        return None
    try:
        artifact = read_artifact(path.parent)
    except UsageError:  # somebody else's manifest.json
        return None
    return artifact if path.resolve() in {file.resolve() for file in artifact.files} else None


def _find_files(path: Path) -> tuple[str, tuple[Path, ...]]:
    if not path.exists():
        raise UsageError(f"{path} does not exist: give an artifact's folder, a .tflite file or an ncnn .param file")
    if path.is_dir():
        artifact = read_artifact(path)
        return artifact.title, artifact.files
    pair = (path.with_suffix(".param"), path.with_suffix(".bin"))
    if path in pair and pair[0].is_file():
        return path.stem, tuple(file for file in pair if file.is_file())
    return path.name, (path,)


def _read(files: tuple[Path, ...], size: tuple[int, int] | None) -> Graph:
    first = files[0]
    try:
        with first.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise UsageError(f"cannot read {first}: {error.strerror or error}; check the path") from error
    if head[4:] == IDENTIFIER:
        if size is not None:
            raise UsageError(f"{first} states its own sizes: --size is for ncnn files that do not")
        return read_tflite(first)
    if first.suffix == ".param" or head.startswith(MAGIC.encode()):
        return read_ncnn(first, files[1] if len(files) > 1 else None, size)
    if first.suffix == ".bin":
        raise UsageError(f"{first} holds weights only: there is no {first.with_suffix('.param').name} beside it")
    if first.suffix == ".onnx":
        raise UsageError(f"{first} is ONNX, for interchange: inspect knows the rules of .tflite and ncnn files")
    raise UsageError(
        f"{first} is neither a .tflite file (identifier TFL3 missing) nor an ncnn .param (7767517 missing)"
    )
