"""Artifacts are written whole or not at all, and read back only as they were written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mobile_matting_export.artifact import (
    MANIFEST,
    SCHEMA,
    Artifact,
    describe_files,
    file_sha256,
    is_replaceable,
    read_artifact,
    require_replaceable,
    write_json,
    written_atomically,
)
from mobile_matting_export.errors import UsageError


def write_one(folder: Path, content: bytes = b"weights") -> Artifact:
    """A small artifact at ``folder``, made the way ``convert`` makes it."""
    with written_atomically(folder) as scratch:
        model = scratch / "net.tflite"
        model.write_bytes(content)
        manifest = {
            "schema": SCHEMA,
            "network": {"name": "mmnet"},
            "target": "tflite-gpu",
            "precision": "fp16",
            "files": describe_files(scratch, (model,)),
        }
        write_json(scratch / MANIFEST, manifest)
    return read_artifact(folder)


def edit_manifest(artifact: Artifact, **changes: Any) -> None:
    write_json(artifact.folder / MANIFEST, artifact.manifest | changes)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- writing -----------------------------------------------------------------------------------------


def test_a_block_that_ends_well_leaves_its_files_and_nothing_else(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "deep" / "er" / "mine")
    assert names(artifact.folder) == [MANIFEST, "net.tflite"]
    assert names(artifact.folder.parent) == ["mine"]
    assert artifact.folder.stat().st_mode & 0o777 == 0o755


def test_nothing_stands_at_the_output_path_before_the_block_has_ended(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "mine") as scratch:
        (scratch / "a").touch()
        assert scratch.parent == tmp_path
        assert not (tmp_path / "mine").exists()
    assert names(tmp_path / "mine") == ["a"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), written_atomically(tmp_path / "mine") as scratch:
        (scratch / "half").touch()
        raise failure
    assert names(tmp_path) == []


def test_a_block_that_fails_keeps_the_old_folder(tmp_path: Path) -> None:
    old = write_one(tmp_path / "mine", b"old")
    with pytest.raises(ValueError), written_atomically(tmp_path / "mine") as scratch:
        (scratch / "half").touch()
        raise ValueError
    assert read_artifact(tmp_path / "mine") == old
    assert names(tmp_path) == ["mine"]


def test_the_old_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_one(tmp_path / "mine", b"old")
    (tmp_path / "mine" / "left_over").touch()
    artifact = write_one(tmp_path / "mine", b"new")
    assert artifact.files[0].read_bytes() == b"new"
    assert names(tmp_path / "mine") == [MANIFEST, "net.tflite"]
    assert names(tmp_path) == ["mine"]


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_one(tmp_path / "mine", b"old")
    rename = Path.rename

    def fail_for_scratch(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise OSError(5, "Input/output error", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_scratch)
    with pytest.raises(UsageError, match="Input/output error"), written_atomically(tmp_path / "mine") as scratch:
        (scratch / "new").touch()
    assert read_artifact(tmp_path / "mine") == old
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize("below", [("mine",), ("mmnet", "mine")], ids=["parent", "grandparent"])
def test_a_file_in_the_place_of_a_parent_is_explained(tmp_path: Path, below: tuple[str, ...]) -> None:
    (tmp_path / "build").write_text("a file")
    folder = (tmp_path / "build").joinpath(*below)
    with pytest.raises(UsageError, match=r"cannot write .*mine: .*choose another --output"):
        write_one(folder)
    assert (tmp_path / "build").read_text() == "a file"


def test_a_file_system_that_takes_no_folders_is_explained() -> None:
    if not Path("/proc/version").exists():
        pytest.skip("needs /proc, where not even root may make folders")
    with pytest.raises(UsageError, match="cannot write /proc/mmexport/mine"):
        write_one(Path("/proc/mmexport/mine"))


def test_failures_of_other_things_in_the_block_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-converter"), written_atomically(tmp_path / "mine"):
        subprocess.run(["no-such-converter"], check=True)
    assert names(tmp_path) == []


def test_a_full_disk_is_explained_and_keeps_the_old_folder(tiny_disk: Path) -> None:
    old = write_one(tiny_disk / "mine", b"old")
    with pytest.raises(
        UsageError,
        match=r"No space left on device while making .*mine: .* its disk has .*--output",
    ):
        write_one(tiny_disk / "mine", bytes(2_000_000))
    assert read_artifact(tiny_disk / "mine") == old
    assert names(tiny_disk) == ["mine"]


FULL_DISKS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS]


def test_a_write_that_fails_names_both_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sentence = rf"No space left on device while making .*mine: .* its disk has [\d.]+ MB left.*\({tmp_path}\) [\d.]+ MB"
    with pytest.raises(UsageError, match=sentence), written_atomically(tmp_path / "mine"):
        Path("/dev/full").write_bytes(b"x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_of_the_output_is_explained(tmp_path: Path, number: int) -> None:
    sentence = rf"cannot write .*mine: {os.strerror(number)}; free some space, or choose another --output"
    with pytest.raises(UsageError, match=sentence), written_atomically(tmp_path / "mine") as scratch:
        raise OSError(number, os.strerror(number), str(scratch / "net.tflite"))


@pytest.mark.parametrize("number", FULL_DISKS)
def test_a_full_disk_of_temporary_files_is_not_blamed_on_the_output(tmp_path: Path, number: int) -> None:
    output = tmp_path / "output" / "mine"
    with pytest.raises(UsageError) as caught, written_atomically(output):
        raise OSError(number, os.strerror(number), str(tmp_path / "temporary" / "net.onnx"))
    assert f"cannot write the temporary file {tmp_path}/temporary/net.onnx: {os.strerror(number)}" in str(caught.value)
    assert "TMPDIR" in str(caught.value) and "--output" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EPIPE])
def test_an_unnamed_failure_is_not_claimed_to_be_about_the_output(tmp_path: Path, number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught, written_atomically(tmp_path / "mine"):
        raise OSError(number, os.strerror(number))
    assert caught.value.errno == number


@pytest.mark.parametrize("value", [{"b": 1, "a": [1.5, None, "ß"]}, [], {"x": 0.1 + 0.2}])
def test_the_same_value_gives_the_same_bytes(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "one", value)
    write_json(tmp_path / "two", json.loads((tmp_path / "one").read_text(encoding="utf-8")))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes().endswith(b"\n")


def test_the_same_artifact_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write_one(tmp_path / "one"), write_one(tmp_path / "two")
    assert (one.folder / MANIFEST).read_bytes() == (two.folder / MANIFEST).read_bytes()


# --- whose folder it is ------------------------------------------------------------------------------


def test_absent_empty_and_own_folders_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "absent", tmp_path / "empty", write_one(tmp_path / "own").folder):
        require_replaceable(folder)


def test_a_folder_of_another_version_of_mmexport_may_be_replaced(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "own")
    edit_manifest(artifact, schema="mmexport.manifest/9")
    assert is_replaceable(artifact.folder)


@pytest.mark.parametrize("manifest", [None, "{", "[]", "{}", '{"schema": "npm/1"}', '{"schema": null}', "\xff"])
def test_a_foreign_folder_is_refused_with_the_way_out(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "photo.jpg").touch()
    if manifest is not None:
        (tmp_path / MANIFEST).write_bytes(manifest.encode("latin-1"))
    with pytest.raises(UsageError, match="was not made by mmexport: choose another --output, or add --force"):
        require_replaceable(tmp_path)


def test_a_file_at_the_output_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file")
    with pytest.raises(UsageError, match="was not made by mmexport"):
        require_replaceable(tmp_path / "mine")


# --- reading -----------------------------------------------------------------------------------------


def test_an_artifact_opens_by_its_folder_its_manifest_or_a_model_file(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "mine")
    for path in (artifact.folder, artifact.folder / MANIFEST, *artifact.files):
        assert read_artifact(path) == artifact


def test_an_artifact_knows_its_files_and_title(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "mine")
    assert artifact.files == (tmp_path / "mine" / "net.tflite",)
    assert artifact.title == "mmnet tflite-gpu-fp16"
    assert artifact.manifest["files"] == [{"path": "net.tflite", "bytes": 7, "sha256": file_sha256(artifact.files[0])}]


def test_an_artifact_may_be_moved(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "mine")
    moved = artifact.folder.rename(tmp_path / "yours")
    assert read_artifact(moved).manifest == artifact.manifest


def test_a_missing_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone does not exist"):
        read_artifact(tmp_path / "gone")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no manifest\.json: it is not a folder made by `mmexport convert`"):
        read_artifact(tmp_path)


def test_a_tampered_file_is_refused(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "mine")
    artifact.files[0].write_bytes(b"Weights")
    with pytest.raises(UsageError, match=r"net\.tflite was changed after it was made \(sha256 differs\)"):
        read_artifact(artifact.folder)


def test_a_missing_model_file_is_refused(tmp_path: Path) -> None:
    artifact = write_one(tmp_path / "mine")
    artifact.files[0].unlink()
    with pytest.raises(UsageError, match=r"net\.tflite is named by the manifest but missing"):
        read_artifact(artifact.folder)


@pytest.mark.parametrize("schema", ["mmexport.manifest/2", "mmexport.bench/1", None])
def test_another_schema_is_refused(tmp_path: Path, schema: str | None) -> None:
    artifact = write_one(tmp_path / "mine")
    edit_manifest(artifact, schema=schema)
    with pytest.raises(UsageError, match=r"is no mmexport\.manifest/1 file: convert the network again"):
        read_artifact(artifact.folder)


@pytest.mark.parametrize("files", [None, [], {}, "net.tflite", ["net.tflite"], [{"path": "net.tflite"}]])
def test_a_manifest_that_names_no_files_is_refused(tmp_path: Path, files: object) -> None:
    artifact = write_one(tmp_path / "mine")
    edit_manifest(artifact, files=files)
    with pytest.raises(UsageError, match="names no files with their sha256"):
        read_artifact(artifact.folder)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_truncated_manifest_is_refused(tmp_path: Path, share: float) -> None:
    artifact = write_one(tmp_path / "mine")
    content = (artifact.folder / MANIFEST).read_bytes()
    (artifact.folder / MANIFEST).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match=r"manifest\.json cannot be read"):
        read_artifact(artifact.folder)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
def test_a_manifest_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UsageError, match=r"is no mmexport\.manifest/1 file"):
        read_artifact(tmp_path)
