"""The ncnn format: ``NCNN`` writes, opens and counts ``.ncnn.param`` + ``.ncnn.bin``."""

from __future__ import annotations

from mobile_matting_export.formats.format import Format
from mobile_matting_export.formats.ncnn.lower import emit
from mobile_matting_export.formats.ncnn.run import count_ops, open_session

NCNN = Format(
    name="ncnn",
    layout="NCHW",
    tools=("torch", "pnnx", "ncnn"),
    emit=emit,
    open=open_session,
    count_ops=count_ops,
)

__all__ = ["NCNN"]
