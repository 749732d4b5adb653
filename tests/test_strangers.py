"""Networks that the toolchain has never seen convert by ``file.py:callable``, like those of the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import load_network
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.targets import TARGETS
from mobile_matting_export.verify import verify_artifact

pytestmark = pytest.mark.toolchain

ODD = Path(__file__).parent / "strangers" / "odd_network.py"


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
