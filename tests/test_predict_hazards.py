"""Hazards of half precision reach the one who converts, and the one who inspects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.artifact import Artifact, describe_files, write_json
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.inspect_artifact import inspect_artifact
from mobile_matting_export.predict_hazards import describe_hazards, predict_hazards

SIZE = (24, 32)


class Loud(nn.Module):
    """Passes 65504 where a pixel is brighter than 218 of 255."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.loud.weight, 1e5 / 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(torch.relu(self.loud(image)) * 1e-5)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("loud")
    inputs = {"image": torch.rand(1, 3, *SIZE)}
    (path,) = TFLITE.emit(ExportGraph(capture(Loud().eval(), inputs), inputs), "fp32", folder, "loud")
    image = {"name": "image", "shape": [1, *SIZE, 3], "layout": "NHWC", "dtype": "float32", "color": "RGB"}
    manifest = {
        "schema": "mmexport.manifest/1",
        "network": {"name": "loud"},
        "target": "tflite-gpu",
        "precision": "fp32",
        "inputs": [{**image, "mean": [0, 0, 0], "scale": [1 / 255] * 3, "resize": "stretch", "fill": 0}],
        "files": describe_files(folder, (path,)),
    }
    write_json(folder / "manifest.json", manifest)
    return Artifact(folder, manifest)


def test_bundled_photographs_show_an_artifacts_hazards(artifact: Artifact) -> None:
    (hazard,) = predict_hazards(artifact)

    assert (hazard.kind, hazard.op) == ("STORE_OVERFLOW", 0)
    assert 65504 < hazard.evidence["largest"] <= 1e5
    assert inspect_artifact(artifact.folder).hazards == (hazard,)


def test_a_file_alone_has_no_known_inputs(artifact: Artifact) -> None:
    assert inspect_artifact(artifact.files[0]).hazards == ()


def test_hazards_are_told_in_one_sentence(artifact: Artifact) -> None:
    sentence = describe_hazards(artifact.files[0], [{"image": np.ones((1, 3, *SIZE), np.float32)}])
    assert sentence is not None
    assert sentence.startswith("half precision may fail in loud.tflite: STORE_OVERFLOW at CONV_2D 0, from loud")
    assert "a result of 1e+05 becomes infinite in float16" in sentence

    dark = [{"image": np.full((1, 3, *SIZE), 0.1, np.float32)}]
    assert describe_hazards(artifact.files[0], dark) is None


def test_other_formats_have_no_predictions_yet(tmp_path: Path) -> None:
    manifest = {"files": [{"path": "net.ncnn.param"}, {"path": "net.ncnn.bin"}]}

    assert predict_hazards(Artifact(tmp_path, manifest)) == ()
