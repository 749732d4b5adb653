"""Hazards of half precision reach the one who converts, and the one who inspects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.artifact import Artifact, describe_files, write_json
from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.inspect_artifact import inspect_artifact
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.predict_hazards import describe_hazards, predict_file_hazards, predict_hazards

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


def test_an_artifacts_file_is_told_by_the_manifest_beside_it(artifact: Artifact) -> None:
    assert inspect_artifact(artifact.files[0]) == replace(
        inspect_artifact(artifact.folder), title="loud.tflite", files=(str(artifact.files[0]),)
    )


def test_a_file_alone_needs_to_be_told_how_a_picture_enters(artifact: Artifact, tmp_path: Path) -> None:
    alone = tmp_path / "alone.tflite"
    alone.write_bytes(artifact.files[0].read_bytes())
    (tmp_path / "manifest.json").write_text("{}")  # somebody else's
    told = inspect_artifact(alone)
    assert told.hazards == () and "--mean and --scale say it" in told.graph.notes[-1]
    assert inspect_artifact(alone, image=ImageSpec()).hazards == predict_hazards(artifact)
    darker = ImageSpec(scale=(1 / 2550, 1 / 2550, 1 / 2550))
    assert inspect_artifact(alone, image=darker).hazards == (), "a tenth of the brightness overflows nothing"


def test_an_artifact_knows_better_how_a_picture_enters(artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="its manifest says it"):
        inspect_artifact(artifact.folder, image=ImageSpec())


def test_hazards_of_a_file_that_takes_no_picture_are_refused(artifact: Artifact) -> None:
    graph = inspect_artifact(artifact.files[0]).graph
    grey = replace(graph, tensors=(replace(graph.tensors[graph.inputs[0]], shape=(1, 24, 32, 1)),), inputs=(0,))
    with pytest.raises(UsageError, match="takes 1x24x32x1, not one picture"):
        predict_file_hazards(artifact.files[0], grey, ImageSpec())


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
