"""The second converter, onnx2tf, makes the same mattes of the bundled networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import load_network
from mobile_matting_export.targets import find_target

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.tensorflow,
    pytest.mark.skipif(
        importlib.util.find_spec("onnx2tf") is None or importlib.util.find_spec("tensorflow") is None,
        reason="the extra [tensorflow] is not installed: make tensorflow",
    ),
]


@pytest.mark.parametrize(("name", "target"), [("ldn_fb", "tflite-cpu"), ("mmnet", "tflite-gpu")])
def test_onnx2tf_makes_the_same_matte(name: str, target: str, tmp_path: Path) -> None:
    network = load_network(name)

    (artifact,) = convert_network(network, Job((find_target(target),), tmp_path, backend="onnx2tf"))

    manifest = artifact.manifest
    print(f"{artifact.title}: {manifest['parity']['max_abs']:.1e}, {manifest['cost']['ops']} ops")
    assert manifest["parity"]["passed"]
    assert manifest["backend"] == "onnx2tf"
    assert {"onnx2tf", "tensorflow"} <= manifest["tools"].keys()
    assert manifest["inputs"][0]["layout"] == "NHWC"
