"""Networks of video convert with their states as further inputs and outputs, and keep them over the frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.contestant import artifact_contestant, network_contestant
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.images import load_picture, sample_pictures
from mobile_matting_export.int8_wish import Int8Wish
from mobile_matting_export.matte import make_inputs, open_session, write_mattes
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.parity import make_cases
from mobile_matting_export.procedural_portraits import make_portrait
from mobile_matting_export.quantization.budget import parse_budget
from mobile_matting_export.report.run_snippet import run_snippet
from mobile_matting_export.rewrites.rewrite import apply_rewrites, run_all
from mobile_matting_export.targets import TARGETS, find_target
from mobile_matting_export.verify import verify_artifact

RECURRENT = Path(__file__).parent / "strangers" / "recurrent.py"
SIZE = (32, 48)
CALLABLES = ("previous_mask", "recurrent", "both")


@pytest.fixture(scope="module")
def network() -> LoadedNetwork:
    """A previous alpha in, two states in and out, results in a dictionary."""
    return load_network(f"{RECURRENT}:both", size=SIZE)


@pytest.fixture(scope="module")
def artifacts(network: LoadedNetwork, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    made = convert_network(network, Job(TARGETS, tmp_path_factory.mktemp("recurrent")))
    return {artifact.manifest["target"]: artifact for artifact in made}


# --- in PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(len(TARGETS)), ids=[target.name for target in TARGETS])
@pytest.mark.parametrize("name", CALLABLES)
def test_every_rewrite_of_a_row_keeps_alpha_and_states(name: str, row: int) -> None:
    loaded = load_network(f"{RECURRENT}:{name}", size=SIZE)
    generator = torch.Generator().manual_seed(3)
    frame = tuple(torch.rand(example.shape, generator=generator) for example in loaded.examples().values())
    captured = capture(loaded.module, loaded.examples())

    rewritten, steps = apply_rewrites(captured, TARGETS[row].rewrites, [frame])

    results, expected = run_all(rewritten, [frame]), run_all(captured, [frame])
    assert len(results) == len(loaded.outputs)
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=2e-6)  # measured: 3e-7
    assert any(step.changes for step in steps)


@pytest.mark.parametrize("name", CALLABLES)
def test_the_second_frame_starts_from_what_the_first_left(name: str) -> None:
    loaded = load_network(f"{RECURRENT}:{name}", size=SIZE)
    first, second, *_ = make_cases(loaded)
    sources = {state.name: state.source for state in loaded.spec.state}
    assert second.fed_back == sources and first.fed_back == {}
    outputs = {"alpha": first.alpha, **first.states}
    for state, source in sources.items():
        assert (first.inputs[state] == 0).all()
        assert second.inputs[state] is outputs[source]
    assert np.abs(second.alpha - first.alpha).max() > 0.01, "a state that moves nothing would hide errors"


# --- converted ---------------------------------------------------------------------------------------


@pytest.mark.toolchain
@pytest.mark.parametrize("target", [target.name for target in TARGETS])
def test_recurrent_network_converts_with_its_states(artifacts: dict[str, Artifact], target: str) -> None:
    manifest = artifacts[target].manifest
    parity, inputs, outputs = manifest["parity"], manifest["inputs"], manifest["outputs"]
    print(f"{target}: {parity['max_abs']:.2e}, {parity['states']}")

    assert parity["passed"] and parity["images"] == 8
    assert [entry["name"] for entry in parity["states"]] == ["next_r1", "next_r2"]
    # float32: 1.7e-7 measured; half weights 8e-5; half arithmetic of Vulkan 8e-4
    limit = {"tflite-cpu": 2e-6, "onnx": 2e-6, "tflite-gpu": 1e-3, "ncnn-cpu": 1e-3, "ncnn-vulkan": 5e-3}[target]
    assert max(parity["max_abs"], *(entry["max_abs"] for entry in parity["states"])) < limit
    assert [(entry["name"], entry.get("source")) for entry in inputs] == [
        ("image", None),
        ("mask", "alpha"),
        ("r1", "next_r1"),
        ("r2", "next_r2"),
    ]
    assert [entry["name"] for entry in outputs] == ["alpha", "next_r1", "next_r2"]
    assert [entry["shape"] for entry in outputs[1:]] == [entry["shape"] for entry in inputs[2:]]
    assert outputs[1]["shape"] == ([1, 16, 24, 8] if target.startswith("tflite") else [1, 8, 16, 24])
    assert outputs[0]["range"] == [0, 1] and "range" not in outputs[1]


@pytest.mark.toolchain
def test_a_film_is_matted_frame_by_frame_as_by_pytorch(network: LoadedNetwork, artifacts: dict[str, Artifact]) -> None:
    picture = load_picture(sample_pictures()[0])
    for target in ("tflite-cpu", "ncnn-cpu", "onnx"):
        session = open_session(artifacts[target])
        ours, theirs = artifact_contestant(artifacts[target], session), network_contestant(network)
        before = expected = None
        for _ in range(4):
            matte, before = ours.matte(picture, before)
            wanted, expected = theirs.matte(picture, expected)
            np.testing.assert_allclose(matte, wanted, atol=1e-3)
        session.close()


@pytest.mark.toolchain
def test_every_picture_is_matted_as_a_first_frame(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    pictures = sample_pictures()[:1] * 2
    written = write_mattes(artifacts["tflite-cpu"], pictures, tmp_path)
    first, second = (Path(entry["alpha"]).read_bytes() for entry in written)
    assert first == second


@pytest.mark.toolchain
def test_verify_finds_the_states_again(artifacts: dict[str, Artifact]) -> None:
    again = verify_artifact(artifacts["onnx"])
    assert again["passed"] and again["max_abs"] == artifacts["onnx"].manifest["parity"]["max_abs"]


@pytest.mark.toolchain
@pytest.mark.parametrize("target", ["tflite-cpu", "ncnn-cpu", "onnx"])
def test_the_reports_lines_leave_the_states_for_the_next_frame(
    artifacts: dict[str, Artifact], target: str, tmp_path: Path
) -> None:
    artifact = artifacts[target]
    picture = Image.open(sample_pictures()[0]).resize(SIZE[::-1])
    picture.save(tmp_path / "portrait.png")
    snippet = run_snippet(artifact.manifest).replace("portrait.jpg", str(tmp_path / "portrait.png"))
    snippet = snippet.replace('"alpha.png"', repr(str(tmp_path / "alpha.png")))
    keep = f"\nnp.savez({str(tmp_path / 'states.npz')!r}, r1=r1, r2=r2)\n"
    subprocess.run([sys.executable, "-c", snippet + keep], cwd=artifact.folder, check=True, timeout=120)

    session = open_session(artifact)
    outputs = session.run(make_inputs(artifact, load_picture(tmp_path / "portrait.png")))
    session.close()
    with np.load(tmp_path / "states.npz") as states:
        for name in ("r1", "r2"):
            found = states[name].transpose(0, 3, 1, 2) if target.startswith("tflite") else states[name]
            np.testing.assert_allclose(found, outputs[f"next_{name}"], atol=1e-5)


@pytest.mark.toolchain
@pytest.mark.parametrize("target", ["tflite-cpu", "ncnn-cpu"])
def test_int8_takes_and_gives_the_states_in_float(network: LoadedNetwork, tmp_path: Path, target: str) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(9):
        Image.fromarray(make_portrait(seed, 64)[0]).save(pictures / f"{seed}.png")
    wish = Int8Wish(pictures, parse_budget("mad=0.1"), method="minmax")  # so wide that nothing is searched

    (artifact,) = convert_network(network, Job([find_target(target)], tmp_path, precision="int8", int8=wish))

    parity, said = artifact.manifest["parity"], artifact.manifest["quantization"]
    print(f"{target}: {parity['max_abs']:.2e}, {parity['states']}, {said['layers_int8']} {said['arithmetic']}")
    assert [entry["name"] for entry in parity["states"]] == ["next_r1", "next_r2"]
    # measured: alpha 0.018 on both, states 0.071 on TFLite and 0.073 on ncnn
    assert 0 < parity["max_abs"] < 0.04
    assert all(0 < entry["max_abs"] < 0.15 for entry in parity["states"])
    assert said["arithmetic"] == "static" and said["layers_int8"] >= 12
    assert {entry["dtype"] for entry in (*artifact.manifest["inputs"], *artifact.manifest["outputs"])} == {"float32"}
    again = verify_artifact(artifact)
    assert again["passed"] and again["max_abs"] == parity["max_abs"]


@pytest.mark.toolchain
def test_a_network_of_two_inputs_returns_alpha_only(tmp_path: Path) -> None:
    loaded = load_network(f"{RECURRENT}:previous_mask", size=SIZE)
    (artifact,) = convert_network(loaded, Job([find_target("tflite-cpu")], tmp_path))
    manifest = artifact.manifest
    assert [entry["name"] for entry in manifest["inputs"]] == ["image", "previous_alpha"]
    assert [entry["name"] for entry in manifest["outputs"]] == ["alpha"]
    assert "states" not in manifest["parity"] and manifest["parity"]["max_abs"] < 2e-6
