"""A pair of files is there as a whole and computes, or an error says why not."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.ncnn import write_files as module
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, read
from mobile_matting_export.formats.ncnn.walk_weights import FLOAT32_TAG
from mobile_matting_export.formats.ncnn.write_files import write_files

pytestmark = pytest.mark.toolchain

NETWORK = ParamFile(
    (
        Layer("Input", "in0", (), ("image",), {0: "6", 1: "4", 2: "2"}),
        Layer("Convolution", "conv", ("image",), ("alpha",), {0: "1", 1: "1", 6: "2"}),
    )
)


def weights(*values: float) -> bytes:
    return struct.pack("<I", FLOAT32_TAG) + np.array(values, "<f4").tobytes()


def test_files_are_written_under_their_stem_and_nothing_else(tmp_path: Path) -> None:
    files = write_files(NETWORK, weights(1, 2), tmp_path, "net")
    assert files == (tmp_path / "net.ncnn.param", tmp_path / "net.ncnn.bin")
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert read(files[0]) == NETWORK
    assert files[1].read_bytes() == weights(1, 2)


@pytest.mark.parametrize("content", [weights(1), weights(1, 2, 3)], ids=["too few", "too many"])
def test_weights_that_do_not_fit_the_layers_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"the weights end in layer 'conv'|4 bytes of weights belong to no"):
        write_files(NETWORK, content, tmp_path, "net")


@pytest.mark.parametrize(
    ("network", "content"),
    [
        (NETWORK, weights(1)),
        (NETWORK, weights(1, np.inf)),
        (ParamFile((*NETWORK.layers[:-1], Layer("Invented", "new", ("image",), ("alpha",)))), b""),
    ],
    ids=["too few weights", "not finite", "unknown layer"],
)
def test_of_a_pair_that_fails_nothing_is_left_not_even_an_older_one(
    network: ParamFile, content: bytes, tmp_path: Path
) -> None:
    write_files(NETWORK, weights(1, 2), tmp_path, "net")
    with pytest.raises(ConversionError):
        write_files(network, content, tmp_path, "net")
    assert not list(tmp_path.iterdir())


def test_nothing_stands_in_place_before_ncnn_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Path]] = []

    def look(files: tuple[Path, ...]) -> None:
        seen.append(sorted(tmp_path.glob("net*")))

    monkeypatch.setattr(module, "_compute", look)
    write_files(NETWORK, weights(1, 2), tmp_path, "net")
    assert seen == [[]]


def test_a_disk_that_fills_between_the_two_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def fail_on_weights(self: Path, target: Path) -> Path:
        if target.suffix == ".bin":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_on_weights)
    with pytest.raises(OSError, match="No space left"):
        write_files(NETWORK, weights(1, 2), tmp_path, "net")
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"not finite in 'alpha' of .*net\.ncnn\.param"):
        write_files(NETWORK, weights(1, np.inf), tmp_path, "net")


def test_layer_that_ncnn_does_not_know_is_refused(tmp_path: Path) -> None:
    network = ParamFile((*NETWORK.layers[:-1], Layer("Invented", "new", ("image",), ("alpha",))))
    with pytest.raises(ConversionError, match="ncnn does not load what was written"):
        write_files(network, b"", tmp_path, "net")
