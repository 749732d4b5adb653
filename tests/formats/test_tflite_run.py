"""Running TFLite files: ours by signature, foreign ones by shape and order, damaged ones not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.read_file import parse
from mobile_matting_export.formats.tflite.run import open_session

IMAGE = np.random.default_rng(0).random((1, 3, 32, 24), dtype=np.float32)


def written(model: object, path: Path) -> Path:
    """The schema's object as a file."""
    from ai_edge_litert.tools import flatbuffer_utils

    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


@pytest.mark.toolchain
def test_layout_outside_is_nchw(small_file: Path) -> None:
    session = open_session((small_file,), "cpu")
    outputs = session.run({"image": IMAGE})
    assert list(outputs) == ["alpha"]
    assert outputs["alpha"].shape == (1, 1, 32, 24)
    assert outputs["alpha"].dtype == np.float32
    session.close()


@pytest.mark.toolchain
def test_results_do_not_change_with_later_frames(small_file: Path) -> None:
    session = TFLITE.open((small_file,), "cpu")
    first = session.run({"image": IMAGE})["alpha"]
    kept = first.copy()
    session.run({"image": np.zeros_like(IMAGE)})
    assert np.array_equal(first, kept)
    assert np.array_equal(session.run({"image": IMAGE})["alpha"], kept)


@pytest.mark.toolchain
def test_device_is_named(small_file: Path) -> None:
    assert open_session((small_file,), "cpu").device == "cpu (XNNPACK)"
    gpu = open_session((small_file,), "gpu")
    assert gpu.device == "cpu (XNNPACK), no GPU delegate on this machine"
    assert gpu.run({"image": IMAGE})["alpha"].shape == (1, 1, 32, 24)


@pytest.mark.toolchain
def test_opening_prints_nothing(small_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TFLITE.open((small_file,), "cpu").run({"image": IMAGE})
    assert capfd.readouterr() == ("", "")


@pytest.mark.toolchain
def test_two_inputs_are_told_by_name_in_any_order(video_graph: ExportGraph, tmp_path: Path) -> None:
    session = TFLITE.open(TFLITE.emit(video_graph, "fp32", tmp_path, "video"), "cpu")
    images = {name: image.numpy() for name, image in video_graph.inputs.items()}
    forward = session.run(images)["alpha"]
    backward = session.run(dict(reversed(images.items())))["alpha"]
    assert np.array_equal(forward, backward)
    with pytest.raises(UsageError, match=r"takes 2 inputs \(image, previous_alpha\), 1 were given \(image\)"):
        session.run({"image": images["image"]})


@pytest.mark.toolchain
def test_foreign_signature_and_names_are_taken_by_order(small_file: Path, tmp_path: Path) -> None:
    model = parse(small_file)
    model.signatureDefs[0].signatureKey = b"serving_default"
    model.signatureDefs[0].inputs[0].name = b"args_0"
    model.signatureDefs[0].outputs[0].name = b"output_0"
    foreign = open_session((written(model, tmp_path / "foreign.tflite"),), "cpu").run({"image": IMAGE})
    ours = open_session((small_file,), "cpu").run({"image": IMAGE})
    assert np.array_equal(foreign["alpha"], ours["alpha"])


@pytest.mark.toolchain
def test_file_without_signature_runs(small_file: Path, tmp_path: Path) -> None:
    model = parse(small_file)
    model.signatureDefs = None
    plain = open_session((written(model, tmp_path / "plain.tflite"),), "cpu").run({"image": IMAGE})
    ours = open_session((small_file,), "cpu").run({"image": IMAGE})
    assert np.array_equal(plain["alpha"], ours["alpha"])


@pytest.mark.toolchain
def test_wrong_size_is_refused(small_file: Path) -> None:
    session = open_session((small_file,), "cpu")
    with pytest.raises(UsageError, match=r"input image .* has shape 1x32x24x3 \(NHWC\); an image of 1x3x16x16"):
        session.run({"image": np.zeros((1, 3, 16, 16), np.float32)})


@pytest.mark.toolchain
def test_truncated_files_never_crash(small_file: Path, tmp_path: Path) -> None:
    """A child opens every truncation: it must end by itself, having refused or run each."""
    whole = small_file.read_bytes()
    lengths = [*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1]
    for length in lengths:
        (tmp_path / f"{length:06d}.tflite").write_bytes(whole[:length])
    script = (
        "import sys; from pathlib import Path\n"
        "from mobile_matting_export.errors import UsageError\n"
        "from mobile_matting_export.formats.tflite.run import open_session\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.tflite')):\n"
        "    try: open_session((path,), 'cpu'); print(path.stem, 'opened')\n"
        "    except UsageError: pass\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, ""), child.stderr[-500:]


def test_number_of_files_and_accelerator_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one file, 2 were given"):
        open_session((tmp_path / "a", tmp_path / "b"), "cpu")
    with pytest.raises(UsageError, match="unknown accelerator npu; choose cpu or gpu"):
        open_session((tmp_path / "a",), "npu")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read TFLite file"):
        open_session((tmp_path / "a.tflite",), "cpu")
