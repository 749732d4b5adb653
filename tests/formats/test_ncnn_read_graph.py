"""An ncnn network as inspection sees it, with and without the size of its input."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.read_graph import read_graph

NET = """7767517
5 6
Input in0 0 1 in0{size}
Convolution c 1 1 in0 a 0=4 1=3 3=2 4=1 5=1 6=108
Split s 1 2 a b d
ReLU r 1 1 b e
BinaryOp m 2 1 e d out0 0=2
"""


def _write(folder: Path, size: str = "") -> tuple[Path, Path]:
    param, weights = folder / "net.ncnn.param", folder / "net.ncnn.bin"
    param.write_text(NET.format(size=size))
    weights.write_bytes(struct.pack("<I", 0) + struct.pack("<f", 0.5) * 108 + struct.pack("<f", 0.0) * 4)
    return param, weights


def test_shapes_are_ncnns_own(tmp_path: Path) -> None:
    graph = read_graph(*_write(tmp_path, " 0=8 1=6 2=3"), None)
    shapes = {tensor.name: tensor.shape for tensor in graph.tensors}
    assert shapes == {"in0": (3, 6, 8)} | dict.fromkeys(("a", "b", "d", "e", "out0"), (4, 3, 4))
    assert [op.kind for op in graph.ops] == ["Convolution", "Split", "ReLU", "BinaryOp"]
    assert [op.macs for op in graph.ops] == [108 * 12, 0, 0, 0]
    assert [graph.tensors[index].name for index in (*graph.inputs, *graph.outputs)] == ["in0", "out0"]
    assert graph.notes == ()


def test_a_size_can_be_given_and_channels_are_the_first_convolutions(tmp_path: Path) -> None:
    graph = read_graph(*_write(tmp_path), (6, 8))
    assert graph.tensors[0].shape == (3, 6, 8)
    assert graph.ops[0].macs == 108 * 12


def test_without_a_size_shapes_are_unknown_and_it_says_so(tmp_path: Path) -> None:
    graph = read_graph(*_write(tmp_path), None)
    assert all(tensor.shape is None for tensor in graph.tensors)
    assert graph.ops[0].macs is None
    assert "--size" in graph.notes[0]


def test_without_weights_shapes_are_unknown_and_it_says_so(tmp_path: Path) -> None:
    param, _ = _write(tmp_path, " 0=8 1=6 2=3")
    graph = read_graph(param, None, None)
    assert all(tensor.shape is None for tensor in graph.tensors)
    assert "net.ncnn.bin" in graph.notes[0]


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    param, weights = _write(tmp_path, " 0=8 1=6 2=3")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"cannot load .*net\.ncnn\.bin"):
        read_graph(param, weights, None)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.param"
    path.write_text("hello\n")
    with pytest.raises(UsageError, match="is no ncnn network: line 1"):
        read_graph(path, None, None)
    with pytest.raises(UsageError, match="cannot read ncnn file"):
        read_graph(tmp_path / "absent.param", None, None)
