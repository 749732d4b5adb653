"""Every network of the registry, to every target, verified in the target's own runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.networks import ALL
from mobile_matting_export.networks.spec import NetworkSpec
from mobile_matting_export.targets import FP32, TARGETS, Target, find_target

pytestmark = pytest.mark.toolchain

GOLDEN = Path(__file__).resolve().parent.parent.parent / "shared" / "networks"

# usual sizes, but for modnet (512: sixteen times the work for the same operators)
SIZES = {"modnet": (256, 256)}

# Golden weights are random, and rounding them to fp16 moves some alphas further than trained ones: largest
# error and MAD with rounded weights, about one and a half times what was measured.
RANDOM_WEIGHTS_FP16 = {"modnet": (0.3, 0.02), "portraitnet": (0.35, 0.012)}

# where ../shared is, these go to every target with trained weights (test_trained_checkpoints) or in their authors' own
# spelling (test_strangers): here one target, the quickest to make, shows that the registry's builds convert
ELSEWHERE = {"mmnet", "segmatting", "portraitnet_video", "modnet"} if GOLDEN.is_dir() else set()

# the same graph as mmnet with narrower layers: one target shows that the channel counts fit
NARROWER = {"mmnet_075", "mmnet_050"}


def checkpoint_for(spec: NetworkSpec, folder: Path) -> Path:
    """The golden state dict as a file, else (width variants of mmnet, or no ../shared) seeded random weights."""
    golden = GOLDEN / f"{spec.name}.safetensors"
    path = folder / f"{spec.name}.safetensors"
    if golden.is_file():
        with safe_open(golden, framework="pt") as file:
            names = [name for name in list(file.keys()) if name.startswith("state/")]
            save_file({name.removeprefix("state/"): file.get_tensor(name) for name in names}, path)
    else:
        torch.manual_seed(0)
        save_file(spec.build().state_dict(), path)
    return path


def load(spec: NetworkSpec, folder: Path) -> LoadedNetwork:
    return load_network(spec.name, checkpoint_for(spec, folder), SIZES.get(spec.name))


def targets_of(spec: NetworkSpec) -> tuple[Target, ...]:
    if spec.name in ELSEWHERE:
        return (find_target("ncnn-cpu"),)
    return (find_target("tflite-gpu"),) if spec.name in NARROWER else TARGETS


def convert_all(network: LoadedNetwork, output: Path) -> list[Artifact]:
    """Every target at its default precision; limits are loosened for random fp16 weights only."""
    targets = targets_of(network.spec)
    if network.spec.name not in RANDOM_WEIGHTS_FP16:
        return convert_network(network, Job(targets, output))
    max_error, max_mad = RANDOM_WEIGHTS_FP16[network.spec.name]
    full = tuple(target for target in targets if target.default_precision == "fp32")
    half = tuple(target for target in targets if target.default_precision == "fp16")
    return [
        *convert_network(network, Job(full, output)),
        *convert_network(network, Job(half, output, max_error=max_error, max_mad=max_mad)),
    ]


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_network_converts_to_every_target(spec: NetworkSpec, tmp_path: Path) -> None:
    artifacts = convert_all(load(spec, tmp_path), tmp_path / "build")

    assert {artifact.manifest["target"] for artifact in artifacts} == {target.name for target in targets_of(spec)}
    for artifact in artifacts:
        parity, ops = artifact.manifest["parity"], artifact.manifest["cost"]["ops_by_type"]
        print(f"{artifact.title}: max {parity['max_abs']:.2e}, MAD {parity['mad']:.2e}, {sum(ops.values())} ops")
        assert parity["passed"]
        if artifact.manifest["precision"] == "fp32":
            assert parity["max_abs"] <= FP32.max_abs
            assert parity["mad"] <= FP32.mad
        if artifact.manifest["target"].startswith("tflite"):
            assert ops.get("TRANSPOSE", 0) == 0
