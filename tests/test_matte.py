"""An artifact's mattes become files beside one another, complete or absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_matting_export import matte
from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import QualityError, UsageError
from mobile_matting_export.matte import (
    collect_pictures,
    make_inputs,
    matte_picture,
    read_image_spec,
    write_mattes,
)


class LeftHalf:
    """A session that mattes the left half of the network's input."""

    def __init__(self, foreground: float = 1.0) -> None:
        self.foreground = foreground
        self.inputs: list[dict[str, np.ndarray]] = []
        self.closed = False

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.inputs.append(dict(inputs))
        alpha = np.zeros((1, 1, *inputs["image"].shape[2:]), np.float32)
        alpha[..., : alpha.shape[3] // 2] = self.foreground
        return {"alpha": alpha}

    def close(self) -> None:
        self.closed = True


def make_artifact(layout: str = "NCHW", resize: str = "stretch", **state: Any) -> Artifact:
    def shape(channels: int) -> list[int]:
        return [1, 32, 48, channels] if layout == "NHWC" else [1, channels, 32, 48]

    image: dict[str, Any] = {"name": "image", "shape": shape(3), "layout": layout, "dtype": "float32", "color": "BGR"}
    image |= {"mean": [1.0, 2.0, 3.0], "scale": [0.5, 0.5, 0.5], "resize": resize, "fill": 7}
    states = [{"name": "previous_alpha", "shape": shape(1), "layout": layout, **state}] if state else []
    return Artifact(
        Path("nowhere"),
        {
            "network": {"name": "net"},
            "target": "onnx",
            "precision": "fp32",
            "inputs": [image, *states],
            "files": [],
        },
    )


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> LeftHalf:
    stub = LeftHalf()
    monkeypatch.setattr(matte, "open_session", lambda artifact: stub)
    return stub


def save_picture(path: Path, size: tuple[int, int] = (60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_image_spec_is_the_manifests() -> None:
    spec = read_image_spec(make_artifact(resize="letterbox").manifest)
    assert (spec.color, spec.mean, spec.scale) == ("BGR", (1.0, 2.0, 3.0), (0.5, 0.5, 0.5))
    assert (spec.resize, spec.fill) == ("letterbox", 7)


def test_a_manifest_without_its_input_is_refused() -> None:
    with pytest.raises(UsageError, match="convert the network again"):
        read_image_spec({"inputs": [{"name": "image"}]})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_inputs_are_channel_first_whatever_the_files_layout(layout: str) -> None:
    picture = np.full((10, 20, 3), (30, 20, 10), np.uint8)
    inputs = make_inputs(make_artifact(layout, source="alpha", initial=0.25), picture)
    assert list(inputs) == ["image", "previous_alpha"]
    assert inputs["image"].shape == (1, 3, 32, 48)
    np.testing.assert_array_equal(inputs["image"][0, :, 0, 0], [4.5, 9.0, 13.5])
    assert inputs["previous_alpha"].shape == (1, 1, 32, 48)
    assert inputs["previous_alpha"].dtype == np.float32
    assert (inputs["previous_alpha"] == 0.25).all()


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_matte_has_the_pictures_size_and_sides(resize: str) -> None:
    alpha = matte_picture(make_artifact(resize=resize), LeftHalf(), np.zeros((200, 100, 3), np.uint8))
    assert alpha.shape == (200, 100) and alpha.dtype == np.float32
    assert (alpha[:, :40] == 1).all() and (alpha[:, 60:] == 0).all()


def test_a_matte_of_no_numbers_is_refused() -> None:
    with pytest.raises(QualityError, match="fp32"):
        matte_picture(make_artifact(), LeftHalf(foreground=np.nan), np.zeros((4, 4, 3), np.uint8))


def test_three_files_are_written_at_the_pictures_size(tmp_path: Path, session: LeftHalf) -> None:
    path = save_picture(tmp_path / "me.jpg")
    output = tmp_path / "new" / "out"
    written = write_mattes(make_artifact(), [path], output, "white")
    assert written == [
        {
            "picture": str(path),
            "width": 60,
            "height": 40,
            "alpha": str(output / "me_alpha.png"),
            "cutout": str(output / "me_cutout.png"),
            "composite": str(output / "me_composite.png"),
        }
    ]
    assert sorted(file.name for file in output.iterdir()) == ["me_alpha.png", "me_composite.png", "me_cutout.png"]
    for kind, mode in (("alpha", "L"), ("cutout", "RGBA"), ("composite", "RGB")):
        with Image.open(written[0][kind]) as image:
            assert (image.size, image.mode) == ((60, 40), mode)
    composite = np.asarray(Image.open(written[0]["composite"]))
    assert (composite[:, 40:] == 255).all()
    np.testing.assert_array_equal(composite[:, :20], np.asarray(Image.open(path))[:, :20])
    assert session.closed


def test_equal_stems_are_numbered_and_never_meet(tmp_path: Path, session: LeftHalf) -> None:
    names = ["a/me.png", "b/me.png", "c/me-2.png", "d/Me.jpg"]
    written = write_mattes(make_artifact(), [save_picture(tmp_path / name) for name in names], tmp_path / "out")
    assert [Path(entry["alpha"]).name for entry in written] == [
        "me_alpha.png",
        "me-3_alpha.png",
        "me-2_alpha.png",
        "Me-4_alpha.png",
    ]


def test_a_picture_is_never_replaced_by_a_result(tmp_path: Path, session: LeftHalf) -> None:
    pictures = [save_picture(tmp_path / "me.png"), save_picture(tmp_path / "me_alpha.png")]
    before = pictures[1].read_bytes()
    with pytest.raises(UsageError, match="would replace"):
        write_mattes(make_artifact(), pictures, tmp_path)
    assert pictures[1].read_bytes() == before


def test_folders_stand_for_their_pictures(tmp_path: Path) -> None:
    single = save_picture(tmp_path / "b.png")
    inside = [save_picture(tmp_path / "folder" / name) for name in ("a.png", "c.jpg")]
    assert collect_pictures([single, tmp_path / "folder"]) == [single, *inside]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture"):
        collect_pictures([single, tmp_path / "empty"])


def test_a_wrong_background_writes_nothing(tmp_path: Path, session: LeftHalf) -> None:
    path = save_picture(tmp_path / "me.png")
    with pytest.raises(UsageError, match="neither a colour nor a file"):
        write_mattes(make_artifact(), [path], tmp_path / "out", "nosuchcolour")
    assert not (tmp_path / "out").exists() and session.inputs == []


def test_a_bad_later_picture_writes_nothing(tmp_path: Path, session: LeftHalf) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"bad\.png"):
        write_mattes(make_artifact(), [save_picture(tmp_path / "me.png"), bad], tmp_path / "out")
    assert not (tmp_path / "out").exists() and session.inputs == []


@pytest.mark.parametrize("output", ["out", "new/out"])
def test_a_failure_leaves_no_empty_folder_and_closes_the_session(
    tmp_path: Path, session: LeftHalf, output: str
) -> None:
    session.foreground = np.nan
    path = save_picture(tmp_path / "me.png")
    with pytest.raises(QualityError):
        write_mattes(make_artifact(), [path], tmp_path / output)
    assert list(tmp_path.iterdir()) == [path]
    assert session.closed


def test_an_existing_output_is_kept_on_failure(tmp_path: Path, session: LeftHalf) -> None:
    session.foreground = np.nan
    (tmp_path / "out").mkdir()
    with pytest.raises(QualityError):
        write_mattes(make_artifact(), [save_picture(tmp_path / "me.png")], tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, session: LeftHalf) -> None:
    path = save_picture(tmp_path / "me.png")
    with pytest.raises(UsageError, match="cannot make the folder"):
        write_mattes(make_artifact(), [path], path)


@pytest.mark.parametrize("good_writes", [0, 1, 2])
def test_the_three_files_appear_together_or_not_at_all(
    tmp_path: Path, session: LeftHalf, monkeypatch: pytest.MonkeyPatch, good_writes: int
) -> None:
    save, calls = Image.Image.save, []

    def full(self: Image.Image, *args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) > good_writes:
            raise OSError(28, "No space left on device")
        save(self, *args, **kwargs)

    path = save_picture(tmp_path / "me.png")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match="No space left"):
        write_mattes(make_artifact(), [path], tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_that_cannot_be_placed_takes_the_others_with_it(tmp_path: Path, session: LeftHalf) -> None:
    blocking = tmp_path / "out" / "me_composite.png"
    blocking.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot write .*me_composite"):
        write_mattes(make_artifact(), [save_picture(tmp_path / "me.png")], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [blocking]


def test_an_unknown_target_is_refused() -> None:
    artifact = make_artifact()
    artifact.manifest["target"] = "abacus"
    with pytest.raises(UsageError, match="abacus"):
        matte.open_session(artifact)
