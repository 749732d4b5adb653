"""``--input``: the same matte of the same picture, however its pixels enter the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobile_matting_export.alpha_network import AlphaNetwork
from mobile_matting_export.contestant import network_contestant
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import load_picture, sample_pictures, to_input
from mobile_matting_export.matte import matte_picture, open_session
from mobile_matting_export.network import (
    InputKind,
    LoadedNetwork,
    bake_normalization,
    find_spec,
    load_network,
    state_sha256,
)
from mobile_matting_export.report.run_snippet import run_snippet
from mobile_matting_export.targets import find_target
from mobile_matting_export.verify import load_original, verify_artifact


@pytest.mark.parametrize("name", ["mmnet", "ldn_fb", "portraitnet_video"])  # RGB / 255, RGB centred, BGR with a state
def test_a_network_behind_its_normalization_gives_the_same_bits(name: str) -> None:
    spec = find_spec(name)
    torch.manual_seed(0)
    network = LoadedNetwork(spec, name, AlphaNetwork(spec.build(), spec.head).eval(), None, spec.size)
    baked = bake_normalization(network, "uint8")
    assert baked.baked == spec.image and baked.byte_inputs == ("image",) and network.byte_inputs == ()
    assert baked.spec.image.color == "RGB" and set(baked.spec.image.mean) == {0.0}
    assert state_sha256(baked.module) == state_sha256(network.module)
    assert bake_normalization(baked, "uint8") is baked and bake_normalization(network, "float") is network

    picture = load_picture(sample_pictures()[0])
    states = [value for key, value in network.examples().items() if key != "image"]
    images = [torch.from_numpy(to_input(picture, one.spec.image, one.size)) for one in (network, baked)]
    assert images[1].min() >= 0 and images[1].max() > 200 and torch.equal(images[1], images[1].round())
    with torch.no_grad():
        assert torch.equal(network.module(images[0], *states), baked.module(images[1], *states))


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("target", "kind"), [("tflite-gpu", "uint8"), ("onnx", "uint8"), ("ncnn-cpu", "pixels"), ("tflite-cpu", "pixels")]
)
def test_an_artifact_that_takes_pixels_works_everywhere(target: str, kind: InputKind, tmp_path: Path) -> None:
    network = load_network("ldn_fb")
    (artifact,) = convert_network(network, Job((find_target(target),), tmp_path, input=kind))
    image = artifact.manifest["inputs"][0]
    assert (image["mean"], image["scale"], image["color"]) == ([0.0] * 3, [1.0] * 3, "RGB")
    assert image["dtype"] == ("uint8" if kind == "uint8" else "float32")
    assert image["baked"]["mean"] == [127.5] * 3
    assert artifact.manifest["network"]["macs"] == 117_043_200  # as without

    again = verify_artifact(artifact)
    assert again["passed"] and again["max_abs"] < 1e-2  # 1.7e-6 measured, the weights being halves already
    picture = load_picture(sample_pictures()[1])
    session = open_session(artifact)
    matte = matte_picture(artifact, session, picture)
    session.close()
    for reference in (network, load_original(artifact, None, None)):
        expected, _ = network_contestant(reference).matte(picture)
        assert np.abs(matte - expected).max() < 1e-5  # measured 1.3e-6

    # of the network's size: resizing by Pillow and by OpenCV may differ in the last bit
    Image.fromarray(picture).resize(network.size[::-1]).save(artifact.folder / "portrait.png")
    snippet = run_snippet(artifact.manifest).replace("portrait.jpg", "portrait.png")
    assert "127.5" not in snippet and ("np.uint8)" in snippet or kind == "pixels")
    subprocess.run([sys.executable, "-c", snippet], cwd=artifact.folder, check=True, timeout=120)
    small = load_picture(artifact.folder / "portrait.png")
    expected, _ = network_contestant(network).matte(small)
    written = np.asarray(Image.open(artifact.folder / "alpha.png"), np.float32)
    assert np.abs(written - expected * 255).max() <= 0.51


def test_ncnn_refuses_bytes_and_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ncnn-vulkan does not take --input uint8: .*--input pixels"):
        convert_network(load_network("ldn_fb"), Job((find_target("ncnn-vulkan"),), tmp_path, input="uint8"))
    assert not list(tmp_path.iterdir())


def test_onnx2tf_refuses_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobile_matting_export.convert.require_onnx2tf", lambda: None)
    job = Job((find_target("tflite-cpu"),), tmp_path, input="uint8", backend="onnx2tf")
    with pytest.raises(UsageError, match="use --input pixels"):
        convert_network(load_network("ldn_fb"), job)
