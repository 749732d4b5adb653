"""8 bit weights under float arithmetic: only they change, and what is written is read back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.formats.tflite import TFLITE, quantize_weights
from mobile_matting_export.formats.tflite.quantize_weights import check_weights_are_near, weights_only
from mobile_matting_export.formats.tflite.read_file import parse, read_file
from mobile_matting_export.formats.tflite.write_file import write_file

pytestmark = pytest.mark.toolchain


class Weighty(nn.Module):
    """Every operator that carries a weight, in one chain."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, 2, 1)
        self.depth = nn.Conv2d(64, 64, 5, 1, 2, groups=64)
        self.up = nn.ConvTranspose2d(64, 8, 2, 2)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.head(torch.relu(self.up(self.depth(torch.relu(self.conv(image)))))))


@pytest.fixture(scope="module")
def graph(tflite_graph: Callable[..., ExportGraph]) -> ExportGraph:
    torch.manual_seed(0)
    return tflite_graph(Weighty(), image=torch.rand(1, 3, 32, 32))


@pytest.fixture(scope="module")
def full_file(graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = TFLITE.emit(graph, "fp32", tmp_path_factory.mktemp("full"), "net")
    return path


@pytest.fixture(scope="module")
def byte_file(full_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``weights_only`` makes of the full file; tests must not change it."""
    (path,) = weights_only((full_file,), tmp_path_factory.mktemp("bytes"), "net")
    return path


def test_large_weights_are_int8_with_a_scale_per_channel_and_nothing_else(byte_file: Path) -> None:
    main, raw = read_file(byte_file).main, parse(byte_file).subgraphs[0].tensors
    made_by = {op.outputs[0]: op for op in main.operators}
    widened = []
    for op in main.operators:
        if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
            source, weight = made_by.get(op.inputs[1]), main.tensors[op.inputs[1]]
            assert (source is not None) == (math.prod(weight.shape) > SMALL_WEIGHT)
            if source is not None:
                axis = 3 if op.kind == "DEPTHWISE_CONV_2D" else 0
                quantization = raw[source.inputs[0]].quantization
                assert (source.kind, source.version) == ("DEQUANTIZE", 5)  # the first with a scale per channel
                assert main.tensors[source.inputs[0]].dtype == "INT8"
                assert (len(quantization.scale), quantization.quantizedDimension) == (weight.shape[axis], axis)
                widened.append(op.kind)
    assert sorted(widened) == ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"]
    assert sum(tensor.dtype == "INT8" for tensor in main.tensors) == 3
    assert {main.tensors[index].dtype for index in main.inputs + main.outputs} == {"FLOAT32"}


def test_signature_survives_and_the_file_shrinks(full_file: Path, byte_file: Path) -> None:
    assert read_file(byte_file).signatures == read_file(full_file).signatures
    assert byte_file.stat().st_size < 0.45 * full_file.stat().st_size  # 0.396: names and small weights stay


def test_result_moves_by_the_rounding_of_the_weights(graph: ExportGraph, byte_file: Path) -> None:
    image = graph.inputs["image"]
    session = TFLITE.open((byte_file,), "cpu")
    alpha = session.run({"image": image.numpy()})["alpha"]
    session.close()
    with torch.no_grad():
        error = np.abs(alpha - graph.module(image).numpy()).max()
    assert 0 < error < 1e-3  # 3.0e-4


def test_xnnpack_takes_every_operation(byte_file: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(byte_file), num_threads=1)
    interpreter.allocate_tensors()
    kinds = [op["op_name"] for op in interpreter._get_ops_details()]
    assert kinds.count("DELEGATE") == 1 and len(kinds) == len(read_file(byte_file).main.operators) + 1


def test_same_bytes_twice(full_file: Path, byte_file: Path, tmp_path: Path) -> None:
    assert weights_only((full_file,), tmp_path, "again")[0].read_bytes() == byte_file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.tflite"]


def test_dropped_rule_is_noticed(full_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize_weights, "_to_integers", Path.read_bytes)
    with pytest.raises(ConversionError, match=r"the weight of conv@2 is still float32"):
        weights_only((full_file,), tmp_path, "net")
    assert list(tmp_path.iterdir()) == []


def test_rounded_small_weight_is_noticed(full_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize_weights, "scopes_of_small_weights", lambda file: None)
    with pytest.raises(ConversionError, match=r"the small weight of head@1 was rounded"):
        weights_only((full_file,), tmp_path, "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("scale", [0.01], r"has 1 scales for 64 channels"),
        ("scale", [0.01] * 64, r"is off by .* steps of its scale"),
        ("scale", [float("nan")] * 64, r"is off by nan steps"),
        ("zeroPoint", [1] * 64, r"has a zero that is not 0"),
    ],
)
def test_wrong_numbers_are_noticed(
    full_file: Path, byte_file: Path, tmp_path: Path, field: str, value: list[float], words: str
) -> None:
    model = parse(byte_file)
    weight = next(t for t in model.subgraphs[0].tensors if t.quantization is not None and t.shape[0] == 64)
    setattr(weight.quantization, field, value)
    path = tmp_path / "net.tflite"
    write_file(model, path)
    with pytest.raises(ConversionError, match=rf"the weight of conv@2 as 8 bit integers {words}"):
        check_weights_are_near(full_file, path)
