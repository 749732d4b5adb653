"""Published, trained weights convert and stay the same matte on photographs nobody here trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import load_network
from mobile_matting_export.targets import TARGETS, find_target
from mobile_matting_export.verify import verify_artifact

pytestmark = pytest.mark.toolchain

CHECKPOINTS = {
    "mmnet": "mmnet/MMNet_1.0_887000.pt",
    "segmatting": "segmatting/ckpt_lastest.pth",
    "portraitnet_video": "portraitnet_video/portraitnet_video_fp16.pt",
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_trained_checkpoint_is_the_same_matte_on_photographs(name: str, shared: Path, tmp_path: Path) -> None:
    checkpoint = shared / "weights" / CHECKPOINTS[name]
    photographs = shared / "data" / "dev" / "eval_natural"
    # software Vulkan takes a second a picture: five photographs there, all forty-one elsewhere
    few = [find_target("ncnn-vulkan")]
    rest = [target for target in TARGETS if target not in few]
    network = load_network(name, checkpoint)

    artifacts: list[Artifact] = [
        *convert_network(network, Job(rest, tmp_path, images=photographs)),
        *convert_network(network, Job(few, tmp_path, images=photographs / "p3m")),
    ]

    for artifact in artifacts:
        parity = artifact.manifest["parity"]
        print(f"{artifact.title}: {parity['images']} frames, max {parity['max_abs']:.1e}, MAD {parity['mad']:.1e}")
        assert parity["passed"]
    again = verify_artifact(artifacts[0], photographs / "p3m")
    assert again["passed"]
