"""Half weights: only they change, and what is written is read back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.formats.tflite import TFLITE, quantize
from mobile_matting_export.formats.tflite.narrow_weights import check_only_weights_became
from mobile_matting_export.formats.tflite.quantize import cast_weights_to_half
from mobile_matting_export.formats.tflite.read_file import read_file

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def half_file(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("half") / "half.tflite"
    cast_weights_to_half(small_file, target)
    return target


def test_large_weights_are_float16_behind_dequantize_and_nothing_else(half_file: Path) -> None:
    main = read_file(half_file).main
    made_by = {op.outputs[0]: op for op in main.operators}
    convolutions = [op for op in main.operators if op.kind == "CONV_2D"]
    assert len(convolutions) == 3
    for op in convolutions:
        source, weight = made_by.get(op.inputs[1]), main.tensors[op.inputs[1]]
        if math.prod(weight.shape) > SMALL_WEIGHT:
            assert source is not None
            assert (source.kind, source.version) == ("DEQUANTIZE", 3)  # the first that knows float16
            assert main.tensors[source.inputs[0]].dtype == "FLOAT16"
        else:
            assert source is None
            assert (weight.dtype, weight.constant) == ("FLOAT32", True)
        assert main.tensors[op.inputs[2]].dtype == "FLOAT32"  # the bias
    assert sum(tensor.dtype == "FLOAT16" for tensor in main.tensors) == 1
    assert {main.tensors[index].dtype for index in main.inputs + main.outputs} == {"FLOAT32"}


def test_signature_survives(small_file: Path, half_file: Path) -> None:
    assert read_file(half_file).signatures == read_file(small_file).signatures


def test_result_moves_by_the_rounding_of_the_weights(small_graph: ExportGraph, half_file: Path) -> None:
    image = small_graph.inputs["image"]
    session = TFLITE.open((half_file,), "cpu")
    alpha = session.run({"image": image.numpy()})["alpha"]
    with torch.no_grad():
        truth = small_graph.module(image).numpy()
    error = np.abs(alpha - truth).max()
    assert 0 < error < 1e-3  # half rounding of weights of order 1: 2**-11 each


def test_emit_fp16_leaves_one_file(small_graph: ExportGraph, tmp_path: Path) -> None:
    files = TFLITE.emit(small_graph, "fp16", tmp_path, "net")
    assert files == (tmp_path / "net.tflite",)
    assert list(tmp_path.iterdir()) == [files[0]]
    assert TFLITE.count_ops(files)["DEQUANTIZE"] == 1


def test_same_bytes_twice(small_file: Path, half_file: Path, tmp_path: Path) -> None:
    cast_weights_to_half(small_file, tmp_path / "again.tflite")
    assert (tmp_path / "again.tflite").read_bytes() == half_file.read_bytes()


def test_weight_beyond_half_range_is_refused(tflite_graph: Callable[..., ExportGraph], tmp_path: Path) -> None:
    net = nn.Conv2d(3, 1, 3, 1, 1)
    nn.init.constant_(net.weight, 70000.0)
    with pytest.raises(ConversionError, match=r"reaches 70000, beyond fp16's 65504; convert to fp32"):
        TFLITE.emit(tflite_graph(net, image=torch.rand(1, 3, 16, 16)), "fp16", tmp_path, "net")
    assert list(tmp_path.iterdir()) == []


def test_failing_quantizer_leaves_the_old_file(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path) -> bytes:
        raise RuntimeError("no recipe")

    monkeypatch.setattr(quantize, "_float_casting", fail)
    target = tmp_path / "net.tflite"
    target.write_bytes(b"old")
    with pytest.raises(ConversionError, match="RuntimeError: no recipe"):
        cast_weights_to_half(small_file, target)
    assert target.read_bytes() == b"old"


def test_unchanged_file_is_noticed(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "_float_casting", Path.read_bytes)
    with pytest.raises(ConversionError, match="is still float32"):
        cast_weights_to_half(small_file, tmp_path / "net.tflite")
    assert list(tmp_path.iterdir()) == []


def test_rounded_small_weight_is_noticed(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "scopes_of_small_weights", lambda file: None)
    with pytest.raises(ConversionError, match=r"small weight .* was rounded"):
        cast_weights_to_half(small_file, tmp_path / "net.tflite")


def test_other_changes_are_noticed(small_file: Path, half_file: Path) -> None:
    full, half = read_file(small_file), read_file(half_file)
    lost = replace(half.main, operators=half.main.operators[:-1])
    with pytest.raises(ConversionError, match="operators changed: LOGISTIC"):
        check_only_weights_became("FLOAT16", full, replace(half, subgraphs=(lost,)))
    with pytest.raises(ConversionError, match="signatures differ"):
        check_only_weights_became("FLOAT16", full, replace(half, signatures=()))
    first = half.main.inputs[0]
    integers = tuple(
        replace(tensor, dtype="INT8") if index == first else tensor for index, tensor in enumerate(half.main.tensors)
    )
    with pytest.raises(ConversionError, match="matte_image became INT8"):
        check_only_weights_became("FLOAT16", full, replace(half, subgraphs=(replace(half.main, tensors=integers),)))
