"""The ncnn format: ``NCNN`` writes, opens and counts ``.ncnn.param`` + ``.ncnn.bin``."""

from __future__ import annotations

from pathlib import Path

from mobile_matting_export.formats.format import ExportGraph, Format, Int8, Session


def _emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    # lowering needs torch, which the child process that runs a file on the GPU does without
    from mobile_matting_export.formats.ncnn.lower import emit

    return emit(graph, precision, folder, stem)


def _open(files: tuple[Path, ...], accelerator: str) -> Session:
    from mobile_matting_export.formats.ncnn.run import open_session

    return open_session(files, accelerator)


def _count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    from mobile_matting_export.formats.ncnn.run import count_ops

    return count_ops(files)


def _int8() -> tuple[Int8, ...]:
    from mobile_matting_export.formats.ncnn.int8_ways import WAYS

    return WAYS


def _weights_only(files: tuple[Path, ...], folder: Path, stem: str) -> tuple[Path, ...]:
    from mobile_matting_export.formats.ncnn.write_codebook import weights_only

    return weights_only(files, folder, stem)


NCNN = Format(
    name="ncnn",
    layout="NCHW",
    tools=("torch", "pnnx", "ncnn"),
    emit=_emit,
    open=_open,
    count_ops=_count_ops,
    input_refusals={
        "uint8": "ncnn takes floats only; --input pixels takes what ncnn::Mat::from_pixels makes of an RGB picture"
    },
    int8=_int8,
    weights_only=_weights_only,
)
