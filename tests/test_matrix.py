"""Every network of the registry, to every target, verified in the target's own runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.networks import ALL
from mobile_matting_export.networks.spec import NetworkSpec
from mobile_matting_export.targets import FP32, TARGETS, Target, find_target

pytestmark = pytest.mark.toolchain

# usual sizes, but for modnet (512: sixteen times the work for the same operators)
SIZES = {"modnet": (256, 256)}

# Golden weights are random, and modnet's sixteen instance norms amplify what rounding them to fp16 does:
# 0.19 / 0.012 in PyTorch itself, with rounded weights and float32 arithmetic. Trained weights do not need this.
RANDOM_WEIGHTS_FP16 = {"modnet": (0.5, 0.05)}

# the same graph as mmnet with narrower layers: one target shows that the channel counts fit
NARROWER = {"mmnet_075", "mmnet_050"}


def checkpoint_for(spec: NetworkSpec, shared: Path, folder: Path) -> Path:
    """The golden state dict as a file; width variants of mmnet have none and get random weights."""
    golden = shared / "networks" / f"{spec.name}.safetensors"
    path = folder / f"{spec.name}.safetensors"
    if golden.is_file():
        with safe_open(golden, framework="pt") as file:
            names = [name for name in list(file.keys()) if name.startswith("state/")]
            save_file({name.removeprefix("state/"): file.get_tensor(name) for name in names}, path)
    else:
        torch.manual_seed(0)
        save_file(spec.build().state_dict(), path)
    return path


def load(spec: NetworkSpec, shared: Path, folder: Path) -> LoadedNetwork:
    return load_network(spec.name, checkpoint_for(spec, shared, folder), SIZES.get(spec.name))


def targets_of(spec: NetworkSpec) -> tuple[Target, ...]:
    return (find_target("tflite-gpu"),) if spec.name in NARROWER else TARGETS


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_network_converts_to_every_target(spec: NetworkSpec, shared: Path, tmp_path: Path) -> None:
    network = load(spec, shared, tmp_path)
    max_error, max_mad = RANDOM_WEIGHTS_FP16.get(spec.name, (None, None))
    targets = targets_of(spec)

    artifacts = convert_network(network, Job(targets, tmp_path / "build", max_error=max_error, max_mad=max_mad))

    assert [artifact.manifest["target"] for artifact in artifacts] == [target.name for target in targets]
    for artifact in artifacts:
        parity, ops = artifact.manifest["parity"], artifact.manifest["cost"]["ops_by_type"]
        print(f"{artifact.title}: max {parity['max_abs']:.2e}, MAD {parity['mad']:.2e}, {sum(ops.values())} ops")
        assert parity["passed"]
        if artifact.manifest["precision"] == "fp32":
            assert parity["max_abs"] <= FP32.max_abs
        if artifact.manifest["target"].startswith("tflite") and spec.name != "shuffle_seg_skipnet":
            assert "TRANSPOSE" not in ops
