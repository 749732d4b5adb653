"""Arrays are the network's inputs exactly, or are refused with what is wrong about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.alpha_network import AlphaNetwork
from mobile_matting_export.errors import UsageError
from mobile_matting_export.network import LoadedNetwork, bake_normalization, find_spec, load_network
from mobile_matting_export.read_calibration_arrays import read_calibration_arrays


@pytest.fixture(scope="module")
def network() -> LoadedNetwork:
    return load_network("ldn_fb", size=(32, 32))


def images(count: int = 8) -> np.ndarray:
    """As ldn_fb takes them: -1 to 1."""
    return np.random.default_rng(0).uniform(-1, 1, (count, 3, 32, 32)).astype(np.float32)


def refused(network: LoadedNetwork, path: Path, match: str, **arrays: np.ndarray) -> None:
    np.savez(path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=match):
        read_calibration_arrays(network, path / "a.npz")


def test_fitting_arrays_come_back_as_they_are(network: LoadedNetwork, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", image=images())
    read = read_calibration_arrays(network, tmp_path / "a.npz")
    assert list(read) == ["image"]
    np.testing.assert_array_equal(read["image"], images())


def test_pixels_fit_the_network_that_takes_pixels(network: LoadedNetwork, tmp_path: Path) -> None:
    pixels = (images() + 1) * np.float32(127.5)
    np.savez(tmp_path / "a.npz", image=pixels)
    baked = bake_normalization(network, "pixels")
    np.testing.assert_array_equal(read_calibration_arrays(baked, tmp_path / "a.npz")["image"], pixels)
    refused(network, tmp_path, r"reaches from .* to 25\d.*normalize them as \(pixel - mean\) \* scale", image=pixels)
    refused(baked, tmp_path, r"pictures for ldn_fb from 0 to 255: normalize", image=pixels / np.float32(255))


def test_other_names_are_refused(network: LoadedNetwork, tmp_path: Path) -> None:
    refused(network, tmp_path, "has the arrays input; ldn_fb needs exactly image", input=images())
    refused(network, tmp_path, "has the arrays image, alpha; ldn_fb", image=images(), alpha=images())
    refused(network, tmp_path, "has the arrays none; ldn_fb")


def test_other_shapes_are_refused(network: LoadedNetwork, tmp_path: Path) -> None:
    expected = r"ldn_fb takes N x 3 x 32 x 32 \(NCHW\)"
    refused(network, tmp_path, expected, image=np.ascontiguousarray(images().transpose(0, 2, 3, 1)))
    refused(network, tmp_path, expected, image=images()[0])
    refused(network, tmp_path, expected, image=np.zeros((), np.float32))
    refused(network, tmp_path, expected, image=images()[..., :16])


def test_other_types_are_refused(network: LoadedNetwork, tmp_path: Path) -> None:
    refused(network, tmp_path, "is float64, not float32", image=images().astype(np.float64))
    refused(network, tmp_path, "is uint8, not float32", image=images().astype(np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_frame(network: LoadedNetwork, tmp_path: Path, value: float) -> None:
    broken = images()
    broken[5, 1, 2, 3] = value
    refused(network, tmp_path, "NaN or infinite values, first in frame 5", image=broken)


def test_states_need_one_frame_for_each_image(tmp_path: Path) -> None:
    spec = find_spec("portraitnet_video")
    network = LoadedNetwork(spec, spec.name, AlphaNetwork(spec.build(), spec.head).eval(), None, (32, 32))
    previous = np.zeros((8, 1, 32, 32), np.float32)
    np.savez(tmp_path / "a.npz", previous_alpha=previous, image=images())
    assert list(read_calibration_arrays(network, tmp_path / "a.npz")) == ["image", "previous_alpha"]
    refused(network, tmp_path, "has 8 images, but 7 of previous_alpha", image=images(), previous_alpha=previous[1:])
    refused(network, tmp_path, "needs exactly image, previous_alpha", image=images())


def test_what_is_no_archive_is_refused(network: LoadedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, image=images(8))
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"cannot read the arrays of .*a\.npz"):
            read_calibration_arrays(network, path)
    with path.open("wb") as single:
        np.save(single, images())
    with pytest.raises(UsageError, match="holds a single array"):
        read_calibration_arrays(network, path)
    refused(network, tmp_path, "without objects", image=np.array([{}], object))
