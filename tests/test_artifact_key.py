"""The key changes with everything that decides an artifact, and is refused where that is not known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobile_matting_export import artifact_key as module
from mobile_matting_export.artifact_key import artifact_key
from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import sample_pictures
from mobile_matting_export.targets import find_target


def test_everything_that_decides_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "one.jpg").write_bytes(sample_pictures()[0].read_bytes())
    tflite, none = find_target("tflite-cpu"), {"max_error": None}

    def keys() -> list[str | None]:
        return [
            artifact_key(tflite, "fp32", None, none, "a network"),
            artifact_key(tflite, "fp16", None, none, "a network"),
            artifact_key(find_target("tflite-gpu"), "fp32", None, none, "a network"),
            artifact_key(tflite, "fp32", pictures, none, "a network"),
            artifact_key(tflite, "fp32", None, {"max_error": 0.1}, "a network"),
            artifact_key(tflite, "fp32", None, {"calibration": pictures}, "a network"),
            artifact_key(tflite, "fp32", None, none, "another network"),
        ]

    before = keys()
    assert before == keys()
    assert None not in before
    assert len(set(before)) == len(before)
    (pictures / "one.jpg").write_bytes(b"changed")
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [True] * 3 + [False, True, False, True]
    monkeypatch.setattr(module, "environment", lambda: "another version")
    assert not set(before) & set(keys())


def test_drivers_count_for_a_gpu_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    vulkan, tflite = find_target("ncnn-vulkan"), find_target("tflite-gpu")
    found = []
    for drivers in (("one",), ("two",), None):
        monkeypatch.setattr(module, "list_vulkan_drivers", lambda drivers=drivers: drivers)
        found.append((artifact_key(vulkan, "fp16", None, {}, "n"), artifact_key(tflite, "fp16", None, {}, "n")))
    gpu, other = zip(*found, strict=True)
    assert gpu[0] != gpu[1]
    assert gpu[2] is None
    assert len(set(other)) == 1


def test_a_row_of_ones_own_has_no_key_and_missing_pictures_are_said(tmp_path: Path) -> None:
    own = replace(find_target("onnx"), rewrites=())
    assert artifact_key(own, "fp32", None, {}, "n") is None
    with pytest.raises(UsageError, match="no such folder"):
        artifact_key(find_target("onnx"), "fp32", tmp_path / "absent", {}, "n")
