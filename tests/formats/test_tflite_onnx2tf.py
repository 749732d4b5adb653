"""The second opinion: ONNX to TFLite by onnx2tf in a child process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE, emit_from_onnx, lower_onnx2tf
from mobile_matting_export.formats.tflite.lower_onnx2tf import PACKAGES
from mobile_matting_export.formats.tflite.read_file import read_file

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_extra = pytest.mark.skipif(bool(MISSING), reason=f"needs the extra [tensorflow], without {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def onnx_file(video_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    torch.onnx.export(
        video_graph.module, tuple(video_graph.inputs.values()), str(path), dynamo=False, opset_version=17,
        input_names=list(video_graph.inputs), output_names=["alpha"],
    )  # fmt: skip
    return path


@pytest.mark.tensorflow
@pytest.mark.toolchain
@needs_extra
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("fp16", 1e-3)])
def test_same_interface_and_numbers_as_our_own(
    precision: str, limit: float, video_graph: ExportGraph, onnx_file: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    files = emit_from_onnx(onnx_file, dict(video_graph.inputs), precision, tmp_path, "net")
    assert capfd.readouterr() == ("", "")
    assert files == (tmp_path / "net.tflite",)
    assert list(tmp_path.iterdir()) == [files[0]]
    (signature,) = read_file(files[0]).signatures
    assert (signature.key, set(signature.inputs), set(signature.outputs)) == (
        "matte", {"image", "previous_alpha"}, {"alpha"},
    )  # fmt: skip
    alpha = TFLITE.open(files, "cpu").run({name: image.numpy() for name, image in video_graph.inputs.items()})["alpha"]
    with torch.no_grad():
        truth = video_graph.module(*video_graph.inputs.values()).numpy()
    assert np.abs(alpha - truth).max() < limit
    assert ("DEQUANTIZE" in TFLITE.count_ops(files)) == (precision == "fp16")


@pytest.mark.tensorflow
@pytest.mark.toolchain
@needs_extra
def test_failure_of_the_child_is_explained(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no onnx")
    with pytest.raises(ConversionError, match=r"onnx2tf cannot convert broken\.onnx .*default backend"):
        emit_from_onnx(broken, {"image": torch.rand(1, 3, 8, 8)}, "fp32", tmp_path, "net")
    assert list(tmp_path.iterdir()) == [broken]


def test_missing_extra_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_onnx2tf, "PACKAGES", ("onnx2tf_that_is_absent",))
    with pytest.raises(UsageError, match=r"pip install 'mmexport\[tensorflow\]'") as error:
        emit_from_onnx(tmp_path / "net.onnx", {}, "fp32", tmp_path, "net")
    assert error.value.exit_code == 2


def test_missing_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_onnx2tf, "PACKAGES", ())
    with pytest.raises(UsageError, match=r"cannot read ONNX file .*net\.onnx"):
        emit_from_onnx(tmp_path / "net.onnx", {}, "fp32", tmp_path, "net")


def test_unknown_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_onnx2tf, "PACKAGES", ())
    (tmp_path / "net.onnx").touch()
    with pytest.raises(ConversionError, match="fp32 or fp16, not int8"):
        emit_from_onnx(tmp_path / "net.onnx", {}, "int8", tmp_path, "net")


def test_slow_child_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_onnx2tf, "PACKAGES", ())
    monkeypatch.setattr(lower_onnx2tf, "TIMEOUT", 0.01)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(ConversionError, match=r"not converted net\.onnx within 0\.01 s"):
        emit_from_onnx(tmp_path / "net.onnx", {}, "fp32", tmp_path, "net")
