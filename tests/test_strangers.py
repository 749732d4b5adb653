"""Networks that the toolchain has never seen convert by ``file.py:callable``, like those of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.targets import TARGETS
from mobile_matting_export.verify import verify_artifact

pytestmark = pytest.mark.toolchain

FOLDER = Path(__file__).parent / "strangers"
ODD = FOLDER / "odd_network.py"

# of the checkpoints' training: etc/Visualize_webCam.py of clovaai/ext_portrait_segmentation
MEAN = (107.304565, 115.69884, 132.35703)
SCALE = (1 / 255 / 63.97182, 1 / 255 / 65.1337, 1 / 255 / 68.29726)


def test_odd_network_converts_to_every_target_and_verifies_again(tmp_path: Path) -> None:
    image = ImageSpec("BGR", (104.0, 112.0, 121.0), (1 / 255,) * 3, "letterbox", 128)
    network = load_network(f"{ODD}:build", size=(64, 96), image=image)

    artifacts = convert_network(network, Job(TARGETS, tmp_path / "build"))

    assert [artifact.manifest["parity"]["passed"] for artifact in artifacts] == [True] * len(TARGETS)
    described = artifacts[0].manifest["inputs"][0]
    assert described["shape"] == [1, 64, 96, 3]
    assert (described["color"], described["resize"], described["fill"]) == ("BGR", "letterbox", 128)
    again = verify_artifact(artifacts[0])
    assert again["passed"]
    assert again["max_abs"] == artifacts[0].manifest["parity"]["max_abs"]


class Grouped(nn.Module):
    """Groups on both sides of PyTorch's own shuffle: its order can go into no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            *(nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 1, groups=3), nn.ReLU(), nn.ChannelShuffle(3)),
            *(nn.Conv2d(12, 24, 1, groups=3), nn.ReLU(), nn.Conv2d(24, 1, 3, padding=1), nn.Sigmoid()),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.steps(image)


def test_a_shuffle_that_must_stay_converts_to_every_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grouped.py").write_text("from test_strangers import Grouped as build\n")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    torch.manual_seed(0)
    network = load_network(f"{tmp_path / 'grouped.py'}:build", size=(32, 48))

    for artifact in convert_network(network, Job(TARGETS, tmp_path / "build")):
        assert artifact.manifest["parity"]["passed"]
        (step,) = (step for step in artifact.manifest["rewrites"] if step["name"] == "spell_channel_shuffle")
        assert step["changes"] == 1


@dataclass(frozen=True)
class Stranger:
    """A network of someone else with its checkpoint as published, and the rewrites that it is there for.

    ``half`` loosens the limits (largest error, MAD) of targets in fp16, for random weights.
    """

    source: str
    checkpoint: Callable[[Path, Path], Path]
    size: tuple[int, int]
    image: ImageSpec
    rewrites: tuple[str, ...]
    half: tuple[float | None, float | None] = (None, None)

    def load(self, shared: Path, folder: Path) -> LoadedNetwork:
        return load_network(f"{FOLDER}/{self.source}", self.checkpoint(shared, folder), self.size, self.image)


def official_modnet(shared: Path, folder: Path) -> Path:
    """The golden weights as the authors save theirs: from DataParallel, the backbone twice."""
    golden = load_file(shared / "networks" / "modnet.safetensors")
    state = {name.removeprefix("state/"): value for name, value in golden.items() if name.startswith("state/")}
    twice = {f"lr_branch.{name}": value.clone() for name, value in state.items() if name.startswith("backbone.")}
    path = folder / "modnet.ckpt.safetensors"
    save_file({f"module.{name}": value for name, value in {**state, **twice}.items()}, path)
    return path


PORTRAIT = ImageSpec("BGR", MEAN, SCALE)
SIGNED = ImageSpec("RGB", (127.5,) * 3, (1 / 127.5,) * 3)

STRANGERS = {
    "sinet": Stranger(
        "sinet.py:build",
        lambda shared, folder: shared / "weights" / "sinet" / "SINet.pth",
        (224, 224),
        PORTRAIT,
        (
            "fold_batchnorm",
            "squeeze_excite_to_conv",
            "softmax2_to_sigmoid",
            "spell_channel_max",
            "absorb_channel_shuffle",
        ),
    ),
    "extremec3": Stranger(
        "extremec3.py:build",
        lambda shared, folder: shared / "weights" / "extremec3" / "ExtremeC3.pth",
        (224, 224),
        PORTRAIT,
        ("fold_batchnorm", "spell_batchnorm_as_depthwise"),
    ),
    "modnet softmax": Stranger(
        "modnet_official.py:softmax_scores",
        official_modnet,
        (128, 96),
        SIGNED,
        ("fold_batchnorm", "squeeze_excite_to_conv", "softmax2_to_sigmoid"),
        (0.3, 0.02),
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_stranger_converts_to_every_target(name: str, shared: Path, tmp_path: Path) -> None:
    stranger = STRANGERS[name]
    network = stranger.load(shared, tmp_path)

    for artifact in convert_all(network, stranger, tmp_path / "build"):
        parity, ops = artifact.manifest["parity"], artifact.manifest["cost"]["ops_by_type"]
        print(f"{artifact.title}: max {parity['max_abs']:.2e}, MAD {parity['mad']:.2e}, {sum(ops.values())} ops")
        assert parity["passed"]
        applied = {step["name"] for step in artifact.manifest["rewrites"] if step["changes"]}
        assert set(stranger.rewrites) <= applied
        if artifact.manifest["target"].startswith("tflite"):
            assert [op for op in ops if op in ("TRANSPOSE", "GATHER_ND", "GATHER", "BROADCAST_TO")] == []


def convert_all(network: LoadedNetwork, stranger: Stranger, output: Path) -> list[Artifact]:
    """Every target at its default precision."""
    max_error, max_mad = stranger.half
    full = tuple(target for target in TARGETS if target.default_precision == "fp32")
    half = tuple(target for target in TARGETS if target.default_precision == "fp16")
    return [
        *convert_network(network, Job(full, output)),
        *convert_network(network, Job(half, output, max_error=max_error, max_mad=max_mad)),
    ]


@pytest.mark.parametrize("build", ["build", "softmax_scores"])
def test_official_modnet_is_the_network_of_the_registry(build: str, shared: Path, tmp_path: Path) -> None:
    checkpoint = official_modnet(shared, tmp_path)
    ours = load_network("modnet", checkpoint, (128, 96))
    theirs = load_network(f"{FOLDER}/modnet_official.py:{build}", checkpoint, (128, 96), SIGNED)
    image = torch.rand(1, 3, 128, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1

    with torch.no_grad():
        torch.testing.assert_close(theirs.module(image), ours.module(image), rtol=0, atol=1e-6)
