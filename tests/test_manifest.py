"""What a row's last step did to the files is said in the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mobile_matting_export.cli.convert_output import list_details
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.images import sample_pictures
from mobile_matting_export.network import load_network
from mobile_matting_export.targets import find_target

pytestmark = pytest.mark.toolchain


def test_layers_without_winograd_are_named_in_the_manifest_and_by_v(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(sample_pictures()[0], pictures)
    network = load_network("ldn_fb", size=(224, 224))

    (large,) = convert_network(network, Job([find_target("ncnn-cpu")], tmp_path, images=pictures))

    (note,) = large.manifest["notes"]
    assert note.startswith("computed without Winograd's algorithm: ") and "not timed on phones" in note
    assert f"{large.title}: {note}" in list_details([large])
    param = next(file for file in large.files if file.suffix == ".param").read_text()
    named = note.partition(": ")[2].partition(" (")[0].split(", ")
    assert named == [line.split()[1] for line in param.splitlines() if " 31=64" in line]
