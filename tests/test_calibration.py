"""Calibration: the same frames every time, some held out, and a sentence where none can be made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_matting_export.alpha_network import AlphaNetwork
from mobile_matting_export.calibration import Calibration, load_calibration
from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import sample_pictures
from mobile_matting_export.network import LoadedNetwork, bake_normalization, find_spec, load_network
from mobile_matting_export.parity import make_cases, run_network

Fill = Callable[[int], Path]


@pytest.fixture(scope="module")
def network() -> LoadedNetwork:
    return load_network("ldn_fb", size=(32, 32))


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """A folder of small noise pictures, each unlike the others."""

    def filled(count: int) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            pixels = cv2.resize(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8), (40, 48))
            cv2.imwrite(str(folder / f"{number:03d}.png"), pixels)
        return folder

    return filled


def names(calibration: Calibration) -> tuple[list[str], list[str]]:
    return [case.name for case in calibration.ranging], [case.name for case in calibration.holdout]


def test_every_third_picture_of_a_folder_is_held_out(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(12)
    ranging, holdout = names(load_calibration(network, folder))
    assert holdout == ["002.png", "005.png", "008.png", "011.png"]
    assert ranging == [f"{number:03d}.png" for number in range(12) if number % 3 != 2]


def test_of_eight_pictures_four_are_held_out(network: LoadedNetwork, fill: Fill) -> None:
    ranging, holdout = names(load_calibration(network, fill(8)))
    assert holdout == ["001.png", "003.png", "005.png", "007.png"]
    assert len(ranging) == 4


def test_frames_are_those_of_verification(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(9)
    calibration = load_calibration(network, folder)
    by_name = {case.name: case for case in (*calibration.ranging, *calibration.holdout)}
    for case in make_cases(network, folder):
        np.testing.assert_array_equal(by_name[case.name].inputs["image"], case.inputs["image"])
        np.testing.assert_array_equal(by_name[case.name].alpha, case.alpha)
        np.testing.assert_array_equal(by_name[case.name].picture, case.picture)


def test_a_list_gives_what_the_folder_gives(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(8)
    lines = [f"pictures/{path.name}" for path in sorted(folder.iterdir(), reverse=True)]
    listed = folder.parent / "list.txt"
    listed.write_text("# mine\n\n" + "\n".join([*lines, str(folder / "003.png")]))
    assert load_calibration(network, listed).sha256 == load_calibration(network, folder).sha256


def test_the_sum_tells_pictures_names_and_networks_apart(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(9)
    first = load_calibration(network, folder)
    assert load_calibration(network, folder).sha256 == first.sha256
    sums = {first.sha256, load_calibration(bake_normalization(network, "pixels"), folder).sha256}
    (folder / "000.png").rename(folder / "000b.png")
    sums.add(load_calibration(network, folder).sha256)
    shutil.copy(folder / "001.png", folder / "000b.png")
    sums.add(load_calibration(network, folder).sha256)
    assert len(sums) == 4


def test_of_many_pictures_128_are_taken_from_first_to_last(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(300)
    calibration = load_calibration(network, folder)
    taken = sorted(name for part in names(calibration) for name in part)
    assert taken == [f"{number * 300 // 128:03d}.png" for number in range(128)]
    assert calibration.source == f"128 pictures: {folder.name}, evenly chosen of 300"
    assert calibration.warning is None


def test_few_pictures_are_warned_of(network: LoadedNetwork, fill: Fill) -> None:
    assert load_calibration(network, fill(9)).warning == "only 9 pictures to calibrate with: 32 to 128 are better"


def test_without_a_source_photographs_and_drawings_are_taken_with_a_warning(network: LoadedNetwork) -> None:
    calibration = load_calibration(network, None)
    ranging, holdout = names(calibration)
    assert (len(ranging), len(holdout)) == (22, 10)
    assert {path.name for path in sample_pictures()} < {*ranging, *holdout}
    # a photograph on either side
    assert "astronaut.jpg" in ranging
    assert "president.jpg" in holdout
    verified = {case.inputs["image"].tobytes() for case in make_cases(network) if case.name.startswith("drawn")}
    assert not verified & {case.inputs["image"].tobytes() for case in calibration.ranging}
    assert calibration.warning is not None
    assert "--calibration" in calibration.warning
    assert load_calibration(network, None).sha256 == calibration.sha256


def test_a_network_with_a_state_gets_both_frames_of_a_picture_on_one_side(fill: Fill) -> None:
    spec = find_spec("portraitnet_video")
    network = LoadedNetwork(spec, spec.name, AlphaNetwork(spec.build(), spec.head).eval(), None, (32, 32))
    calibration = load_calibration(network, fill(8))
    for part in names(calibration):
        assert part[1::2] == [f"{name}, second frame" for name in part[::2]]
    first, second = calibration.ranging[:2]
    assert not first.inputs["previous_alpha"].any()
    np.testing.assert_array_equal(second.inputs["previous_alpha"], first.alpha)


def test_large_pictures_are_kept_small_and_their_tensors_are_not_changed(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(7)
    large = np.random.default_rng(0).integers(0, 256, (900, 1280, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "large.png"), large)
    calibration = load_calibration(network, folder)
    kept = calibration.holdout[-1]
    assert kept.picture.shape == (450, 640, 3)
    exact = next(case for case in make_cases(network, folder) if case.name == "large.png")
    np.testing.assert_array_equal(kept.inputs["image"], exact.inputs["image"])


def test_arrays_are_taken_as_they_are(network: LoadedNetwork, fill: Fill, tmp_path: Path) -> None:
    folder = fill(8)
    cases = sorted(make_cases(network, folder), key=lambda case: case.name)
    np.savez(tmp_path / "mine.npz", image=np.concatenate([case.inputs["image"] for case in cases]))
    calibration = load_calibration(network, tmp_path / "mine.npz")
    assert names(calibration) == (
        ["mine-0000", "mine-0002", "mine-0004", "mine-0006"],
        ["mine-0001", "mine-0003", "mine-0005", "mine-0007"],
    )
    for index, case in enumerate(calibration.ranging):
        np.testing.assert_array_equal(case.inputs["image"], cases[2 * index].inputs["image"])
        np.testing.assert_array_equal(case.alpha, run_network(network, case.inputs))
        assert case.picture.shape == (32, 32, 3)
    # the picture of the input's size, in the colours of the file
    seen = cv2.resize(cases[0].picture, (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(calibration.ranging[0].picture, seen)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_fewer_than_eight_pictures_are_refused(network: LoadedNetwork, fill: Fill, count: int) -> None:
    folder = fill(count)
    with pytest.raises(UsageError, match=rf"has {count} pictures?, too few .* at least 8, better 32 to 128"):
        load_calibration(network, folder)


def test_an_empty_folder_and_a_list_of_nothing_are_refused(network: LoadedNetwork, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no pictures"):
        load_calibration(network, tmp_path)
    (tmp_path / "list.txt").write_text("# nothing yet\n")
    with pytest.raises(UsageError, match=r"list\.txt has 0 pictures, too few"):
        load_calibration(network, tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.npz", "nowhere.txt"])
def test_a_missing_source_is_refused(network: LoadedNetwork, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: there is no such file or folder"):
        load_calibration(network, tmp_path / name)


def test_a_picture_or_any_other_file_is_no_source(network: LoadedNetwork, fill: Fill) -> None:
    with pytest.raises(UsageError, match=r"neither a folder of pictures, nor a list .* nor arrays"):
        load_calibration(network, fill(1) / "000.png")


def test_a_list_that_is_no_text_is_refused(network: LoadedNetwork, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"cannot read the list .*one picture on each line"):
        load_calibration(network, tmp_path / "list.txt")


def test_one_unreadable_picture_is_named_with_its_reason(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(9)
    (folder / "004.png").write_bytes(b"not a picture")
    with pytest.raises(UsageError, match=r"cannot read the picture .*004\.png: it is in no known picture format"):
        load_calibration(network, folder)


def test_several_unfit_pictures_are_named_together(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(12)
    cv2.imwrite(str(folder / "001.png"), np.zeros((31, 200, 3), np.uint8))
    for number in range(2, 8):
        (folder / f"{number:03d}.png").write_bytes(b"")
    expected = (
        r"7 of 12 calibration pictures cannot be used "
        r"\(001\.png, 002\.png, 003\.png, 004\.png, 005\.png, \.\.\.\); the first: .*only 31x200 pixels"
    )
    with pytest.raises(UsageError, match=expected):
        load_calibration(network, folder)


def test_a_list_that_names_a_missing_picture_is_refused(network: LoadedNetwork, fill: Fill) -> None:
    folder = fill(8)
    (folder / "list.txt").write_text("\n".join(f"{number:03d}.png" for number in range(9)))
    with pytest.raises(UsageError, match=r"008\.png: there is no such file"):
        load_calibration(network, folder / "list.txt")
