"""Inspection of real files: the peers' say what is wrong with them, strangers' are refused in plain words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.group_refusals import group_refusals, summarize_outcome
from mobile_matting_export.inspect_artifact import inspect_artifact
from mobile_matting_export.inspection import BackendReport, Inspection


def _by_name(inspection: Inspection) -> dict[str, BackendReport]:
    return {backend.name: backend for backend in inspection.backends}


def _refused(inspection: Inspection, backend: str) -> Counter[str]:
    return Counter(inspection.graph.ops[number].kind for number in _by_name(inspection)[backend].refused)


def test_reshapes_to_five_axes_in_a_peers_mmnet(shared: Path) -> None:
    inspection = inspect_artifact(shared / "peers" / "mmnet" / "litert-torch.fp32.tflite")
    for backend, words in (("classic", "OP is supported, but"), ("ml_drift", "Tensor dimensions must be less than 5.")):
        assert _refused(inspection, backend) == {"RESHAPE": 12, "CONCATENATION": 4}
        report = _by_name(inspection)[backend]
        assert (report.outcome, len(report.parts), report.accelerated) == ("partial", 9, 120)
        reshapes = group_refusals(inspection.graph, report)[0]
        assert reshapes.first.reason.startswith(words)
        assert "5 axes" in reshapes.first.means and "4 axes" in reshapes.first.remedy
        assert reshapes.modules == ("m.d0", "m.d1", "m.d4")
        assert "largest part, 120 operations, the CPU the other 80" in summarize_outcome(report)
    assert _by_name(inspection)["xnnpack"].outcome == "full"


def test_transposes_of_a_peer_are_explained(shared: Path) -> None:
    inspection = inspect_artifact(shared / "peers" / "mmnet" / "litert-torch.fp32.tflite")
    (remark,) = [remark for remark in inspection.remarks if inspection.graph.ops[remark.ops[0]].kind == "TRANSPOSE"]
    assert len(remark.ops) == 12
    assert "layout" in remark.says and remark.remedy


def test_an_8_bit_file(shared: Path) -> None:
    inspection = inspect_artifact(shared / "peers" / "segmatting" / "onnx2tf.int8.tflite")
    assert _by_name(inspection)["classic"].outcome == _by_name(inspection)["ml_drift"].outcome == "full"
    assert _refused(inspection, "xnnpack") == {"PRELU": 24, "AVERAGE_POOL_2D": 4, "SOFTMAX": 1}
    assert any("8 bit" in remark.says for remark in inspection.remarks)


def test_a_pnnx_file_needs_a_size_only_for_shapes(shared: Path) -> None:
    path = shared / "peers" / "mmnet" / "pnnx.fp16.param"
    unsized, sized = inspect_artifact(path), inspect_artifact(path, (256, 256))
    assert unsized.memory.peak_bytes is None and "--size" in unsized.graph.notes[0]
    assert _by_name(unsized)["vulkan"].outcome == _by_name(sized)["vulkan"].outcome == "full"
    assert sized.memory.peak_bytes == 9175040
    assert sum(op.macs or 0 for op in sized.graph.ops) == 327503872


def test_either_file_of_a_pair_names_it(shared: Path) -> None:
    folder = shared / "peers" / "mmnet"
    by_param, by_bin = (inspect_artifact(folder / f"pnnx.fp16.{suffix}") for suffix in ("param", "bin"))
    assert by_param == by_bin
    assert by_param.bytes == sum((folder / f"pnnx.fp16.{suffix}").stat().st_size for suffix in ("param", "bin"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("net.tflite", b"\x1c\0\0\0TFL3" + b"\xff" * 64, "it ends before what it says it holds"),
        ("net.tflite", b"PK\x03\x04" + b"\0" * 100, "neither a .tflite file"),
        ("net.tflite", b"", "neither a .tflite file"),
        ("net.param", b"7767517\n3 3\nReLU r 1 1 a b\n", "reads blob 'a', which no layer wrote"),
        ("net.param", b"\x89PNG\r\n\x1a\n", "is no ncnn network"),
        ("net.bin", b"\0" * 16, "holds weights only"),
        ("net.onnx", b"\x08\x08", "is ONNX"),
    ],
)
def test_strangers_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        inspect_artifact(path)


def test_nothing_there_and_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        inspect_artifact(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="not a folder made by"):
        inspect_artifact(tmp_path)
