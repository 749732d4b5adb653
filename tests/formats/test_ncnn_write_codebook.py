"""8-bit weights with float arithmetic: the runtime computes with the table's numbers, exactly."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, read
from mobile_matting_export.formats.ncnn.walk_weights import CODEBOOK_TAG, FLOAT32_TAG, walk_weights
from mobile_matting_export.formats.ncnn.write_codebook import make_codebook, nearest, weights_only

Frames = list[dict[str, np.ndarray]]


@pytest.mark.toolchain
def test_runtime_computes_with_the_numbers_of_the_table(tmp_path: Path) -> None:
    side = 19  # one kernel of 1083 weights
    numbers = np.random.default_rng(0).normal(size=(3, side, side)).astype("<f4")
    layer = Layer("Convolution", "conv", ("image",), ("alpha",), {0: "1", 1: f"{side}", 4: f"{side // 2}"})
    layer = layer.with_setting(6, numbers.size)
    image = Layer("Input", "in0", (), ("image",), {0: f"{side}", 1: f"{side}", 2: "3"})
    full = (tmp_path / "full.param", tmp_path / "full.bin")
    full[0].write_text(ParamFile((image, layer)).to_text())
    full[1].write_bytes(struct.pack("<I", FLOAT32_TAG) + numbers.tobytes())
    files = weights_only(full, tmp_path, "short")
    assert files[1].stat().st_size == 4 + 4 * 256 + 1084
    session = NCNN.open(files, "cpu")
    (stored,) = walk_weights(read(files[0]), files[1].read_bytes())
    for channel in range(3):
        # the answer to a single 1 in the middle is the kernel, turned by 180 degrees
        impulse = np.zeros((1, 3, side, side), np.float32)
        impulse[0, channel, side // 2, side // 2] = 1
        answer = session.run({"image": impulse})["alpha"][0, 0, ::-1, ::-1]
        np.testing.assert_array_equal(answer, stored.values().reshape(numbers.shape)[channel])
    session.close()
    assert np.abs(stored.values() - numbers.ravel()).max() < 0.03  # 0.014 measured


@pytest.mark.toolchain
def test_large_weights_are_shortened_and_all_else_stays(
    gated_files: tuple[Path, ...], gated_frames: Frames, tmp_path: Path
) -> None:
    files = weights_only(gated_files, tmp_path, "w8")
    before = list(walk_weights(read(gated_files[0]), gated_files[1].read_bytes()))
    after = list(walk_weights(read(files[0]), files[1].read_bytes()))
    for old, new in zip(before, after, strict=True):
        if old.tag is None or old.block.count <= SMALL_WEIGHT:
            assert new.raw == old.raw
        else:
            assert new.tag == CODEBOOK_TAG
    assert {new.layer.type for new in after if new.tag == CODEBOOK_TAG} == {
        *("Convolution", "InnerProduct", "Deconvolution")
    }
    sessions = [NCNN.open(one, "cpu") for one in (gated_files, files)]
    full, short = (session.run(gated_frames[0])["alpha"] for session in sessions)
    assert 0 < np.abs(full - short).max() < 1e-3  # 2.7e-4 measured
    for session in sessions:
        session.close()


@pytest.mark.toolchain
def test_same_files_give_the_same_bytes(gated_files: tuple[Path, ...], tmp_path: Path) -> None:
    one, two = (weights_only(gated_files, tmp_path, stem) for stem in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.toolchain
def test_shortened_files_are_not_shortened_again(gated_files: tuple[Path, ...], tmp_path: Path) -> None:
    files = weights_only(gated_files, tmp_path, "w8")
    with pytest.raises(ConversionError, match="are not float32"):
        weights_only(files, tmp_path, "again")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing; convert again"):
        weights_only((tmp_path / "a.param", tmp_path / "a.bin"), tmp_path, "w8")


def test_few_different_numbers_are_kept_exactly() -> None:
    values = np.random.default_rng(0).choice(np.float32([0, 1e-20, -3, 7.25]), 2000).astype("<f4")
    table = make_codebook(values)
    assert (len(table), table.dtype) == (256, np.dtype("<f4"))
    np.testing.assert_array_equal(table[nearest(table, values)], values)


@pytest.mark.parametrize("spread", ["normal", "laplace", "uniform"])
def test_table_errs_less_than_even_steps(spread: str) -> None:
    values = getattr(np.random.default_rng(0), spread)(size=20_000).astype("<f4")
    table = make_codebook(values)
    assert (np.diff(table) >= 0).all()
    error = float(np.square(table[nearest(table, values)].astype(float) - values).mean())
    step = (values.max() - values.min()) / 255
    assert error < 1.01 * step**2 / 12
    # the best table errs by (integral of density^(1/3))^3 / (12 * 256^2) (Panter and Dite, 1951)
    best = {"normal": 2.72, "laplace": 9.0, "uniform": 1 / 12}[spread] / 256**2
    assert error < best  # 0.80 to 0.95 of it measured: it holds for endless numbers, these are 78 an entry
