"""What --autotune decides goes into the files and the manifest, and is not decided twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.announce import Announce
from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import find_target
from mobile_matting_export.time_forms import Contest, FormTimer

pytestmark = pytest.mark.toolchain


class Clock:
    """Finds later forms faster, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, contest: Contest, announce: Announce) -> list[list[float]]:
        self.asked += 1
        forms = contest.forms
        assert contest.frame["image"].shape == (1, 3, 64, 64)
        assert (contest.inputs[0]["shape"], contest.outputs[0]["name"]) == ([1, 3, 64, 64], "alpha")
        assert all(file.is_file() for files in forms for file in files)
        # the first two are the same files
        return [[10.0 - max(index, 1) + jitter for jitter in (0, 0.01, 0.02)] for index in range(len(forms))]


@pytest.fixture(scope="module")
def network() -> LoadedNetwork:
    return load_network("ldn_fb", size=(64, 64))


def convert(network: LoadedNetwork, folder: Path, cache: ResultCache, clock: Clock | None) -> Artifact:
    timer = None if clock is None else FormTimer("a clock", "ms of a clock", clock)
    job = Job([find_target("ncnn-cpu")], folder, precision="fp32", cache=cache, form_timer=timer)
    (artifact,) = convert_network(network, job)
    return artifact


def test_timed_forms_are_written_recorded_and_remembered(network: LoadedNetwork, tmp_path: Path) -> None:
    cache, clock = ResultCache(tmp_path / "cache"), Clock()
    counted = convert(network, tmp_path / "counted", cache, None)
    timed = convert(network, tmp_path / "timed", cache, clock)

    assert "autotune" not in counted.manifest
    taken = {entry["choice"]: entry["taken"] for entry in timed.manifest["autotune"]}
    assert taken == {"split_conv_over_concat": "joined"}  # the only place where this network has another form
    assert clock.asked == 1
    names = [[step["name"] for step in artifact.manifest["rewrites"]] for artifact in (counted, timed)]
    assert set(names[0]) - set(names[1]) == {"split_any_conv_over_concat"}
    assert timed.manifest["parity"]["passed"]
    assert timed.manifest["cost"]["ops_by_type"]["Concat"] > counted.manifest["cost"]["ops_by_type"]["Concat"]

    again = convert(network, tmp_path / "again", cache, clock)
    assert clock.asked == 1
    for file in sorted(timed.folder.iterdir()):
        assert (again.folder / file.name).read_bytes() == file.read_bytes(), file.name
    # without timing the row's own forms are taken, whatever was timed
    assert convert(network, tmp_path / "counted", cache, None).manifest == counted.manifest


def test_counted_decisions_are_recorded_with_their_costs(network: LoadedNetwork, tmp_path: Path) -> None:
    artifact = convert(network, tmp_path, ResultCache(tmp_path / "cache"), None)
    (step,) = (step for step in artifact.manifest["rewrites"] if step["name"] == "split_any_conv_over_concat")

    taken = {made["place"]: (made["by"], made["taken"]) for made in step["decisions"]}
    assert taken["net.conv5"] == ("counted", "split")
    assert taken["net.newconvF1"] == ("counted", "joined")
    for made in step["decisions"]:
        assert made["costs"][made["taken"]] == min(made["costs"].values())
