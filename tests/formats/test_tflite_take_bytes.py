"""A TFLite file that takes bytes: DEQUANTIZE instead of CAST, the same numbers, in both precisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.read_file import read_file
from mobile_matting_export.formats.tflite.take_bytes import take_bytes

pytestmark = pytest.mark.toolchain


def pixels(graph: ExportGraph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 256, tuple(example.shape)).astype(np.float32)
        if name in graph.byte_inputs
        else rng.random(tuple(example.shape), np.float32)
        for name, example in graph.inputs.items()
    }


def results(graph: ExportGraph, path: Path, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    session = TFLITE.open((path,), "cpu")
    made = session.run(inputs)["alpha"]
    session.close()
    with torch.no_grad():
        return made, graph.module(*(torch.from_numpy(value) for value in inputs.values())).numpy()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_bytes_and_floats_give_the_same_alpha(video_graph: ExportGraph, precision: str, tmp_path: Path) -> None:
    graph = ExportGraph(video_graph.module, video_graph.inputs, ("image",))
    (path,) = TFLITE.emit(graph, precision, tmp_path, "bytes")
    file = read_file(path)
    inputs = file.signatures[0].inputs
    assert file.main.tensors[inputs["image"]].dtype == "UINT8"
    assert file.main.tensors[inputs["previous_alpha"]].dtype == "FLOAT32"
    kinds = [operator.kind for operator in file.main.operators]
    assert "CAST" not in kinds and kinds.count("DEQUANTIZE") == (1 if precision == "fp32" else 2)

    made, expected = results(graph, path, pixels(graph))
    # as floats: 1.2e-7 in fp32; in fp16 the rounded weights of the decoder meet inputs of up to 255
    floats = ExportGraph(video_graph.module, video_graph.inputs)
    (same,) = TFLITE.emit(floats, precision, tmp_path, "floats")
    from_floats, _ = results(floats, same, pixels(graph))
    assert np.array_equal(made, from_floats)
    if precision == "fp32":
        assert np.abs(made - expected).max() < 2e-6


def test_the_same_graph_gives_the_same_bytes(small_graph: ExportGraph, tmp_path: Path) -> None:
    graph = ExportGraph(small_graph.module, small_graph.inputs, ("image",))
    (first,), (second,) = (TFLITE.emit(graph, "fp32", tmp_path, stem) for stem in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_a_normalized_picture_is_refused(small_graph: ExportGraph, tmp_path: Path) -> None:
    graph = ExportGraph(small_graph.module, small_graph.inputs, ("image",))
    (path,) = TFLITE.emit(graph, "fp32", tmp_path, "bytes")
    session = TFLITE.open((path,), "cpu")
    with pytest.raises(UsageError, match="the file normalizes them itself"):
        session.run({"image": np.full((1, 3, 32, 24), 0.5, np.float32)})
    session.close()


def test_a_file_of_floats_is_left_alone(small_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(small_file.read_bytes())
    with pytest.raises(ConversionError, match="a CAST from uint8 to float32 was expected"):
        take_bytes(copy, ("image",))
    assert copy.read_bytes() == small_file.read_bytes()
