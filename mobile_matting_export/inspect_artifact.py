"""Inspects a file: reads its graph, judges it by every backend's rules, estimates its memory."""

from __future__ import annotations

from pathlib import Path

from mobile_matting_export.artifact import read_artifact
from mobile_matting_export.delegates.estimate_memory import estimate_memory
from mobile_matting_export.delegates.judge_graph import find_costs, judge_all
from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.param import MAGIC
from mobile_matting_export.formats.ncnn.read_graph import read_graph as read_ncnn
from mobile_matting_export.formats.tflite.read_file import IDENTIFIER
from mobile_matting_export.formats.tflite.read_graph import read_graph as read_tflite
from mobile_matting_export.inspection import Graph, Hazard, Inspection


def inspect_artifact(path: Path, size: tuple[int, int] | None = None) -> Inspection:
    """Inspect an artifact's folder, a ``.tflite`` file, or an ncnn ``.param`` with the ``.bin`` beside it.

    Args:
        path: the folder or file, ours or a stranger's.
        size: height and width of an ncnn network's input where its file does not state them.

    Raises:
        UsageError: nothing there, a damaged file, or one of another format.
    """
    title, files = _find_files(path)
    graph = _read(files, size)
    return Inspection(
        title=title,
        files=tuple(map(str, files)),
        bytes=sum(file.stat().st_size for file in files),
        graph=graph,
        backends=judge_all(graph),
        memory=estimate_memory(graph),
        remarks=find_costs(graph),
        hazards=_hazards(path),
    )


def _hazards(path: Path) -> tuple[Hazard, ...]:
    """Those of an artifact's folder: of a file alone nobody knows how a picture enters."""
    if not path.is_dir():
        return ()
    from mobile_matting_export.predict_hazards import predict_hazards  # needs torch, which files alone do not

    return predict_hazards(read_artifact(path))


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
