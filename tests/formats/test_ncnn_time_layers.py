"""Times of an ncnn network's layers: each once, in order, and together about a whole frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.time_layers import time_layers

pytestmark = pytest.mark.toolchain

# layers of one input and no weights: a large map, then a small one, then two readers of it
NET = """7767517
6 7
Input in0 0 1 in0
UnaryOp large 1 1 in0 a 0=7
Pooling pool 1 1 a b 0=1 1=8 2=8
Split split 1 2 b c d
UnaryOp small 1 1 c e 0=7
BinaryOp add 2 1 d e out0 0=0
"""
SHAPE = (16, 256, 256)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    param, weights = tmp_path / "net.param", tmp_path / "net.bin"
    param.write_text(NET)
    weights.write_bytes(b"")
    return param, weights


def test_layers_add_up_to_the_frame_and_the_large_one_takes_longest(files: tuple[Path, Path]) -> None:
    parts, whole = time_layers(*files, {"in0": SHAPE})
    assert len(parts) == 5 and min(parts) >= 0
    # measured 1.01; the rest is room for a busy machine
    assert 0.7 < sum(parts) / whole < 1.4
    large, _, split, small, _ = parts
    assert large > 10 * small and split < 0.05 * whole, "a map of 64 times the values; a split copies nothing"


def test_files_that_do_not_run_are_refused(files: tuple[Path, Path]) -> None:
    param, weights = files
    param.write_text(NET.replace("UnaryOp small", "NoSuchLayer small"))
    with pytest.raises(UsageError, match="ncnn cannot load"):
        time_layers(param, weights, {"in0": SHAPE})
