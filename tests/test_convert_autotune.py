"""What --autotune decides goes into the files and the manifest, and is not decided twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.errors import ConversionError
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import find_target
from mobile_matting_export.time_forms import FormsToTime, FormTimer

pytestmark = pytest.mark.toolchain


class Clock:
    """Finds later forms faster, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, asked: FormsToTime, announce: Announce) -> dict[str, list[float]]:
        self.asked += 1
        assert asked.case.inputs["image"].shape == (1, 3, 64, 64)
        assert (asked.inputs[0]["shape"], asked.outputs[0]["name"]) == ([1, 3, 64, 64], "alpha")
        assert all(file.is_file() for files in asked.forms.values() for file in files)
        # the first two are the same files
        return {
            name: [10.0 - max(index, 1) + jitter for jitter in (0, 0.01, 0.02)]
            for index, name in enumerate(asked.forms)
        }


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


def test_a_form_that_would_leave_the_gpu_is_no_form(
    network: LoadedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse_all_but_the_own(path: Path) -> None:
        asked.append(path.stem)
        if len(asked) > 1 and path.stem == "form":
            raise ConversionError("an operation would leave the GPU")

    monkeypatch.setattr("mobile_matting_export.convert.require_gpu", refuse_all_but_the_own)
    clock = Clock()
    job = Job([find_target("tflite-gpu")], tmp_path, form_timer=FormTimer("a phone", "ms", clock))
    (artifact,) = convert_network(network, job)

    assert asked[0] == "form" and len(asked) >= 3  # the own form, another one, and what is written
    assert (clock.asked, "autotune" in artifact.manifest) == (0, False)


def test_forms_are_parts_of_a_step(network: LoadedNetwork, tmp_path: Path) -> None:
    said: list[str] = []
    job = Job([find_target("ncnn-cpu")], tmp_path, precision="fp32", form_timer=FormTimer("a clock", "ms", Clock()))
    convert_network(network, job, said.append)

    steps = [message for message in said if not isinstance(message, Part)]
    assert [step.split()[0] for step in steps] == ["capturing", "rewriting", "lowering", "verifying", "writing"]
    assert any("autotune ncnn-cpu" in message for message in said)
