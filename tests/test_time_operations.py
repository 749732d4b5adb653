"""Where a file's time goes: measured for ncnn, and for others the reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.inspect_artifact import inspect_artifact
from mobile_matting_export.inspection import Graph, Inspection, Memory, Op
from mobile_matting_export.time_operations import time_operations

NET = "7767517\n3 3\nInput in0 0 1 in0{size}\nUnaryOp exp 1 1 in0 a 0=7\nReLU last 1 1 a out0\n"


@pytest.mark.toolchain
def test_ncnn_is_timed_layer_by_layer(tmp_path: Path) -> None:
    (tmp_path / "net.param").write_text(NET.format(size=" 0=64 1=64 2=8"))
    (tmp_path / "net.bin").write_bytes(b"")
    times = time_operations(inspect_artifact(tmp_path / "net.param"))
    assert len(times.ms) == 2 and times.whole_ms is not None and times.why_not == ""
    assert times.share(0) + times.share(1) == pytest.approx(1) and times.share(0) > times.share(1)


@pytest.mark.toolchain
def test_without_weights_or_a_size_nothing_is_timed(tmp_path: Path) -> None:
    (tmp_path / "net.param").write_text(NET.format(size=""))
    assert "no weights" in time_operations(inspect_artifact(tmp_path / "net.param")).why_not
    (tmp_path / "net.bin").write_bytes(b"")
    times = time_operations(inspect_artifact(tmp_path / "net.param"))
    assert "--size" in times.why_not and times.ms == () and times.whole_ms is None


def test_tflite_says_why_it_is_not_timed_and_counts_instead() -> None:
    ops = (Op(0, "CONV_2D", 1, (), (), macs=300), Op(1, "CONV_2D", 1, (), (), macs=100), Op(2, "ADD", 1, (), ()))
    inspection = Inspection("net", ("net.tflite",), 1, Graph("tflite", (), ops, (), ()), (), Memory(None, None, ""))
    assert "XNNPACK runs them as one" in time_operations(inspection).why_not
    assert [inspection.share_of_macs(op) for op in ops] == [0.75, 0.25, 0]
