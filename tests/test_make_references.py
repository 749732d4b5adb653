"""The original is run once for all artifacts that take the same pictures, and one that is not at hand is told."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_trade_off import make_artifact

from mobile_matting_export import make_references as module
from mobile_matting_export.artifact import Artifact, file_sha256
from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.errors import UsageError
from mobile_matting_export.make_references import make_references
from mobile_matting_export.network import LoadedNetwork, load_network, state_sha256

GONE = {"file": "gone.pt", "sha256": "0" * 64}


@pytest.fixture(scope="module")
def original() -> LoadedNetwork:
    return load_network("ldn_fb", size=(64, 64))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose original was loaded."""
    found: list[str] = []

    def load(artifact: Artifact, *rest: Any) -> LoadedNetwork:
        found.append(str(artifact.folder))
        return load_original(artifact, *rest)

    load_original = module.load_original
    monkeypatch.setattr(module, "load_original", load)
    return found


def make(original: LoadedNetwork, folder: str, height: int = 64, network: Any = None, **image: Any) -> Artifact:
    weights = bundled_weights("ldn_fb")
    assert weights is not None
    own = asdict(original.spec.image)
    made = {"name": "image", "shape": [1, height, 64, 3], "layout": "NHWC", "dtype": "float32"} | own | image
    described = {
        "name": "ldn_fb",
        "source": "ldn_fb",
        "head": asdict(original.spec.head),
        "state_sha256": state_sha256(original.module),
        "checkpoint": {"file": weights.name, "sha256": file_sha256(weights)},
    }
    return make_artifact(folder, inputs=[made], network=described | (network or {}))


def test_the_original_is_run_once_for_a_size_and_baked_input(original: LoadedNetwork, loads: list[str]) -> None:
    own = {key: value for key, value in asdict(original.spec.image).items() if key in ("color", "mean", "scale")}
    pixels = {"baked": own, "color": "RGB", "mean": [0, 0, 0], "scale": [1, 1, 1]}
    artifacts = [
        make(original, "a"),
        make(original, "onnx", shape=[1, 3, 64, 64], layout="NCHW"),
        make(original, "large", 96),
        make(original, "pixels", **pixels),
        make(original, "b"),
    ]
    found = make_references(artifacts, None, None, None)
    assert loads == ["a", "large", "pixels"]
    assert found[0] is found[1] is found[4] and found[2].cases[0].alpha.shape == (1, 1, 96, 64)
    assert found[0].cases[0].inputs["image"].max() <= 5 < found[3].cases[0].inputs["image"].max()
    assert not any(one.why for one in found)


def test_weights_that_one_manifest_leads_to_serve_all(original: LoadedNetwork, loads: list[str]) -> None:
    moved = {"name": "mine", "checkpoint": GONE}
    first, second = make_references([make(original, "a", network=moved), make(original, "b")], None, None, None)
    assert loads == ["a", "b"] and first is second and first.cases and not first.why


def test_an_original_that_is_not_at_hand_is_told_unless_it_was_named(original: LoadedNetwork, tmp_path: Path) -> None:
    artifact = make(original, "a", network={"name": "mine", "checkpoint": GONE})
    (found,) = make_references([artifact], None, None, None)
    assert not found.cases and "the checkpoint gone.pt this artifact was made from is not there" in found.why
    named = tmp_path / "other.pt"
    named.write_bytes(b"weights")
    with pytest.raises(UsageError, match="is not the checkpoint this artifact was made from"):
        make_references([artifact], None, named, None)


def test_a_folder_that_is_not_there_is_refused_also_without_an_original(original: LoadedNetwork) -> None:
    for artifact in (make(original, "a"), make(original, "b", network={"name": "mine", "checkpoint": GONE})):
        with pytest.raises(UsageError, match="there is no such folder"):
            make_references([artifact], Path("/nonexistent"), None, None)
