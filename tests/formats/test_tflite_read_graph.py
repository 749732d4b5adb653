"""A TFLite file as inspection sees it: small constants, multiply-accumulates, module paths."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.tflite.quantize import cast_weights_to_half
from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.inspection import Graph, Op


def _first(graph: Graph, kind: str) -> Op:
    return next(op for op in graph.ops if op.kind == kind)


@pytest.mark.toolchain
def test_shapes_macs_and_modules(small_file: Path) -> None:
    graph = read_graph(small_file)
    assert graph.format == "tflite" and graph.notes == ()
    assert [graph.tensors[index].shape for index in graph.inputs] == [(1, 32, 24, 3)]
    assert [graph.tensors[index].shape for index in graph.outputs] == [(1, 32, 24, 1)]
    convolutions = [op for op in graph.ops if op.kind == "CONV_2D"]
    encoder, decoder, head = (16 * 12 * 16 * 27, 16 * 12 * 16 * 144, 32 * 24 * 19)
    assert [op.macs for op in convolutions] == [encoder, decoder, head]
    assert sum(op.macs or 0 for op in graph.ops) == encoder + decoder + head
    assert [op.module for op in convolutions[:2]] == ["encoder.conv", "decoder.conv"]


@pytest.mark.toolchain
def test_small_constants_have_values_and_weights_none(small_file: Path) -> None:
    graph = read_graph(small_file)
    size = graph.tensors[_first(graph, "RESIZE_BILINEAR").inputs[1]]
    assert (size.constant, size.dtype, size.values) == (True, "INT32", (32.0, 24.0))
    weights = [graph.inputs_of(op)[1] for op in graph.ops if op.kind == "CONV_2D"]
    assert all(tensor.constant for tensor in weights)
    assert [tensor.values is None for tensor in weights] == [math.prod(w.shape or ()) > 64 for w in weights]


@pytest.mark.toolchain
def test_a_widened_weight_counts_as_stored(small_file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.tflite"
    cast_weights_to_half(small_file, half)
    graph = read_graph(half)
    widen = _first(graph, "DEQUANTIZE")
    assert graph.tensors[widen.inputs[0]].dtype == "FLOAT16"
    assert graph.tensors[widen.outputs[0]].constant and graph.tensors[widen.outputs[0]].values is None
    assert widen.module == "decoder.conv"


@pytest.mark.toolchain
def test_producers_and_consumers(small_file: Path) -> None:
    graph = read_graph(small_file)
    concatenation = _first(graph, "CONCATENATION")
    assert all(concatenation in graph.consumers(index) for index in concatenation.inputs)
    assert graph.producers[concatenation.outputs[0]] == concatenation
    assert graph.consumers(graph.outputs[0]) == ()


@pytest.mark.toolchain
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(small_file: Path, tmp_path: Path, share: float) -> None:
    content = small_file.read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: int(len(content) * share)])
    try:
        graph = read_graph(path)
    except UsageError as error:
        assert "cut.tflite" in str(error)
    else:  # what was cut off may be weights only: the graph is then whole
        assert len(graph.ops) == len(read_graph(small_file).ops)
