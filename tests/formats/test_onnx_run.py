from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.onnx import ONNX

SHAPE = (1, 1, 2, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """alpha = image * previous + 0.25, with the constant as a node."""
    quarter = helper.make_tensor("quarter", TensorProto.FLOAT, [1], [0.25])
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["q"], value=quarter),
            helper.make_node("Mul", ["image", "previous"], ["m"]),
            helper.make_node("Add", ["m", "q"], ["alpha"]),
        ],
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("image", "previous")],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, SHAPE)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    target = tmp_path / "net.onnx"
    onnx.save(model, target)
    return target


def frame() -> dict[str, np.ndarray]:
    image = np.arange(6, dtype=np.float32).reshape(SHAPE) / 6
    return {"previous": image[..., ::-1], "image": image}


def test_session_feeds_by_name_and_returns_alpha(path: Path) -> None:
    session = ONNX.open((path,), "cpu")
    assert session.device == "cpu"  # type: ignore[attr-defined]
    inputs = frame()
    result = session.run(inputs)
    np.testing.assert_allclose(result["alpha"], inputs["image"] * inputs["previous"] + 0.25, rtol=1e-6)
    assert list(result) == ["alpha"]
    session.close()


def test_float64_pictures_are_taken_as_float32(path: Path) -> None:
    session = ONNX.open((path,), "cpu")
    wide = {name: array.astype(np.float64) for name, array in frame().items()}
    np.testing.assert_array_equal(session.run(wide)["alpha"], session.run(frame())["alpha"])


def test_wrong_names_and_sizes_are_refused(path: Path) -> None:
    session = ONNX.open((path,), "cpu")
    with pytest.raises(UsageError, match=r"takes the inputs \['image', 'previous'\], got \['image'\]"):
        session.run({"image": frame()["image"]})
    with pytest.raises(UsageError, match="size is fixed at conversion"):
        session.run({**frame(), "image": np.zeros((1, 1, 4, 6), np.float32)})


def test_ops_are_counted_without_constants(path: Path) -> None:
    assert ONNX.count_ops((path,)) == {"Add": 1, "Mul": 1}


def test_damaged_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"cannot load .*net\.onnx.*convert again"):
        ONNX.open((path,), "cpu")
    with pytest.raises(UsageError, match="no ONNX model"):
        ONNX.count_ops((path,))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"net\.onnx is missing"):
        ONNX.open((tmp_path / "net.onnx",), "cpu")
    with pytest.raises(UsageError, match=r"one \.onnx file; got \['net\.tflite'\]"):
        ONNX.open((tmp_path / "net.tflite",), "cpu")


def test_unknown_accelerator_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="'cpu' here, not on 'gpu'"):
        ONNX.open((path,), "gpu")
