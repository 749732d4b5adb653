"""The printed lines run as they are, and make the alpha that the artifact makes here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.images import load_picture, sample_pictures, to_input
from mobile_matting_export.matte import make_inputs, open_session
from mobile_matting_export.network import load_network
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.report.run_snippet import run_snippet
from mobile_matting_export.targets import find_target


def make_manifest(target: str, mode: str = "cpu", **image: Any) -> dict[str, Any]:
    channel_last = target.startswith("tflite")
    layout = {"shape": [1, 64, 48, 3] if channel_last else [1, 3, 64, 48], "layout": "NHWC" if channel_last else "NCHW"}
    contract = {
        "dtype": "float32",
        "color": "RGB",
        "mean": [0.0] * 3,
        "scale": [1.0] * 3,
        "resize": "stretch",
        "fill": 0,
    }
    state = {"name": "previous_alpha", "source": "alpha", "initial": 0.5}
    state |= {"shape": [1, 64, 48, 1] if channel_last else [1, 1, 64, 48]}
    return {
        "target": target,
        "accelerator": "gpu" if mode.startswith("gpu") else "cpu",
        "mode": mode,
        "inputs": [{"name": "image"} | layout | contract | image, state],
        "files": [{"path": f"net.{suffix}"} for suffix in ("tflite", "onnx", "ncnn.param", "ncnn.bin")],
    }


def run_until_loading(snippet: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The variables after the lines that prepare the inputs."""
    monkeypatch.chdir(folder)
    variables: dict[str, Any] = {}
    imports, prepare, *_ = snippet.split("\n\n")
    exec(f"{imports}\n{prepare}", variables)
    return variables


@pytest.mark.toolchain
@pytest.mark.parametrize("target", ["tflite-gpu", "onnx", "ncnn-cpu"])
def test_the_lines_make_the_artifacts_own_alpha(target: str, tmp_path: Path) -> None:
    network = load_network("ldn_fb")
    (artifact,) = convert_network(network, Job((find_target(target),), tmp_path))
    # of the network's size: resizing by Pillow and by OpenCV may differ in the last bit
    picture = Image.open(sample_pictures()[0]).resize(network.size[::-1])
    picture.save(artifact.folder / "portrait.png")
    snippet = run_snippet(artifact.manifest).replace("portrait.jpg", "portrait.png")
    subprocess.run([sys.executable, "-c", snippet], cwd=artifact.folder, check=True, timeout=120)

    session = open_session(artifact)
    alpha = session.run(make_inputs(artifact, load_picture(artifact.folder / "portrait.png")))["alpha"][0, 0]
    session.close()
    written = np.asarray(Image.open(artifact.folder / "alpha.png"), np.float32)
    assert alpha.max() - alpha.min() > 0.9
    assert np.abs(written - alpha * 255).max() <= 0.51


@pytest.mark.parametrize("target", ["tflite-cpu", "onnx"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_inputs_follow_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, color: Any, resize: Any
) -> None:
    mean, scale = (104.0, 112.0, 121.0), (0.5, 0.25, 0.125)
    # wide colour steps across the picture: bars, sides and channels would be seen
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, :64], pixels[64:, :] = (200, 30, 90), (10, 250, 60)
    Image.fromarray(pixels).save(tmp_path / "portrait.png")
    manifest = make_manifest(target, color=color, resize=resize, mean=list(mean), scale=list(scale), fill=9)
    snippet = run_snippet(manifest).replace("portrait.jpg", "portrait.png")
    variables = run_until_loading(snippet, tmp_path, monkeypatch)

    image, state = variables["image"], variables["previous_alpha"]
    assert image.dtype == state.dtype == np.float32 and (state == 0.5).all()
    assert list(image.shape) == manifest["inputs"][0]["shape"] and list(state.shape) == manifest["inputs"][1]["shape"]
    expected = to_input(pixels, ImageSpec(color, mean, scale, resize, 9), (64, 48))
    if target == "tflite-cpu":
        expected = expected.transpose(0, 2, 3, 1)
    # a pixel at an edge may be averaged otherwise, no side may be exchanged
    assert (np.abs(image - expected) > 0.6).mean() < 0.05


@pytest.mark.parametrize("target", ["tflite-cpu", "onnx"])
def test_bytes_enter_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "portrait.png")
    snippet = run_snippet(make_manifest(target, dtype="uint8")).replace("portrait.jpg", "portrait.png")
    image = run_until_loading(snippet, tmp_path, monkeypatch)["image"]
    assert image.dtype == np.uint8
    assert np.array_equal(image[0], pixels if target == "tflite-cpu" else pixels.transpose(2, 0, 1))


@pytest.mark.parametrize(("dtype", "lowest"), [("int8", -128), ("uint8", 0)])
def test_8_bit_ends_are_stored_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, lowest: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "portrait.png")
    image = {"quantization": {"scale": 1 / 127.5, "zero_point": lowest + 128}, "mean": [127.5] * 3}
    manifest = make_manifest("tflite-cpu", dtype=dtype, scale=[1 / 127.5] * 3, **image)
    manifest["outputs"] = [{"name": "alpha", "quantization": {"scale": 1 / 255, "zero_point": lowest}}]
    snippet = run_snippet(manifest).replace("portrait.jpg", "portrait.png")
    variables = run_until_loading(snippet, tmp_path, monkeypatch)

    assert variables["image"].dtype == np.dtype(dtype)
    # (p - 127.5) lies on a half, which floats may see on either side
    assert np.abs(variables["image"][0].astype(int) - lowest - pixels.astype(int)).max() <= 1
    (restoring,) = [line for line in snippet.splitlines() if line.startswith("alpha = (")]
    stored = {"alpha": np.array([lowest, lowest + 255], dtype), "np": np}
    exec(restoring, stored)
    assert stored["alpha"].tolist() == pytest.approx([0, 1])


@pytest.mark.parametrize(
    ("mode", "on_vulkan", "in_fp32"), [("cpu", False, True), ("gpu", True, False), ("gpu-fp32", True, True)]
)
def test_ncnn_runs_in_the_mode_that_was_verified(mode: str, on_vulkan: bool, in_fp32: bool) -> None:
    snippet = run_snippet(make_manifest("ncnn-vulkan" if on_vulkan else "ncnn-cpu", mode))
    assert ("use_vulkan_compute = True" in snippet) == on_vulkan
    assert ("use_fp16_arithmetic = False" in snippet) == in_fp32
    assert snippet.index("net.opt" if on_vulkan or in_fp32 else "net") < snippet.index("load_param")


@pytest.mark.parametrize("target", ["tflite-cpu", "onnx", "ncnn-cpu"])
def test_every_input_is_fed_and_every_line_is_python(target: str) -> None:
    snippet = run_snippet(make_manifest(target))
    compile(snippet, "snippet", "exec")
    assert snippet.count("previous_alpha") >= 2 and "image" in snippet
