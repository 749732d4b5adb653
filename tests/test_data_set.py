"""Folders of pictures and mattes: found, paired, told apart from films, refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobile_matting_export.data_set import load_truth, read_data_set
from mobile_matting_export.errors import UsageError


def make_data(folder: Path, names: list[str], size: tuple[int, int] = (8, 6)) -> Path:
    for kind in ("image", "alpha"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size, "teal").save(folder / "image" / f"{name}.jpg")
        Image.new("L", size, 255).save(folder / "alpha" / f"{name}.png")
    return folder


NUMBERED = [f"{i:03d}" for i in range(3, 9)]


def test_pictures_are_paired_by_name(tmp_path: Path) -> None:
    (clip,) = read_data_set(make_data(tmp_path, ["b", "a"]))
    assert [(f.name, f.picture.name, f.truth.name) for f in clip.frames] == [
        ("a", "a.jpg", "a.png"),
        ("b", "b.jpg", "b.png"),
    ]
    assert not clip.consecutive


def test_a_folder_of_data_sets_gives_one_clip_each(tmp_path: Path) -> None:
    make_data(tmp_path / "s1", ["x"])
    make_data(tmp_path / "s0", ["y", "z"])
    assert [(clip.name, len(clip.frames)) for clip in read_data_set(tmp_path)] == [("s0", 2), ("s1", 1)]


def test_numbers_without_a_gap_are_a_film(tmp_path: Path) -> None:
    assert read_data_set(make_data(tmp_path, NUMBERED))[0].consecutive


@pytest.mark.parametrize("names", [[*NUMBERED, "020"], NUMBERED[:4], [f"{n}_left" for n in NUMBERED]])
def test_gaps_few_pictures_and_names_are_stills(tmp_path: Path, names: list[str]) -> None:
    assert not read_data_set(make_data(tmp_path, names))[0].consecutive


def test_pictures_of_several_sizes_are_stills(tmp_path: Path) -> None:
    make_data(tmp_path, NUMBERED)
    make_data(tmp_path, ["009"], (9, 6))
    assert not read_data_set(tmp_path)[0].consecutive


@pytest.mark.parametrize(("reading", "expected"), [("stills", False), ("sequence", True)])
def test_the_user_may_say_what_it_is(tmp_path: Path, reading: str, expected: bool) -> None:
    names = NUMBERED if reading == "stills" else ["a", "b"]
    assert read_data_set(make_data(tmp_path, names), reading)[0].consecutive is expected


def test_a_missing_matte_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, ["a", "b", "c"])
    for name in ("b", "c"):
        (tmp_path / "alpha" / f"{name}.png").unlink()
    with pytest.raises(UsageError, match=r"lacks the matte of b\.jpg and 1 more"):
        read_data_set(tmp_path)


@pytest.mark.parametrize("what", ["absent", "file", "empty"])
def test_what_is_no_data_set_is_refused(tmp_path: Path, what: str) -> None:
    place = tmp_path / what
    if what == "file":
        place.write_text("")
    if what == "empty":
        place.mkdir()
    with pytest.raises(UsageError, match="image"):
        read_data_set(place)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_matte_of_8_or_16_bits_reaches_one(tmp_path: Path, dtype: type, scale: int) -> None:
    values = np.array([[0, scale // 5, scale]], dtype)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert load_truth(tmp_path / "m.png") == pytest.approx(np.array([[0, 0.2, 1.0]]), abs=1e-6)


def test_a_colour_picture_is_no_matte(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), "teal").save(tmp_path / "m.png")
    with pytest.raises(UsageError, match="colour picture"):
        load_truth(tmp_path / "m.png")


def test_a_damaged_matte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UsageError, match="cannot read the matte"):
        load_truth(tmp_path / "m.png")


def test_frames_play_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (clip,) = read_data_set(make_data(tmp_path, [str(i) for i in range(1, 13)]))
    assert [frame.name for frame in clip.frames] == [str(i) for i in range(1, 13)]
    assert clip.consecutive


def test_one_picture_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no film"):
        read_data_set(make_data(tmp_path, ["a"]), "sequence")


def test_a_damaged_picture_in_a_numbered_folder_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, NUMBERED)
    (tmp_path / "image" / "005.jpg").write_bytes(b"junk")
    with pytest.raises(UsageError, match=r"005\.jpg"):
        read_data_set(tmp_path)


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    make_data(tmp_path, ["a"])
    Image.new("RGB", (8, 6)).save(tmp_path / "image" / "a.png")
    with pytest.raises(UsageError, match="have one name"):
        read_data_set(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I", "F"])
def test_a_matte_of_an_unusual_kind_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new("L", (3, 3), 128).convert(mode).save(tmp_path / "m.tif")
    with pytest.raises(UsageError, match="save it as a grey PNG"):
        load_truth(tmp_path / "m.tif")
