"""Pictures become the same tensors every time, and mattes return to the picture's own size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mobile_matting_export.errors import UsageError
from mobile_matting_export.images import (
    from_output,
    list_pictures,
    load_picture,
    sample_pictures,
    to_input,
)
from mobile_matting_export.networks.portraitnet import PORTRAITNET_VIDEO
from mobile_matting_export.networks.spec import ImageSpec

STRETCH = ImageSpec()
LETTERBOX = ImageSpec(resize="letterbox", fill=128)
PIXELS = ImageSpec(scale=(1.0, 1.0, 1.0))
SHAPES = [(1, 1), (7, 5), (48, 64), (480, 640), (640, 480), (3000, 2), (2, 3000)]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y = np.linspace(0, 255, height)[:, None, None]
    x = np.linspace(0, 255, width)[None, :, None]
    return np.broadcast_to((y + x) / 2, (height, width, 3)).round().astype(np.uint8)


def test_load_picture_returns_the_pixels_of_a_lossless_file(tmp_path: Path) -> None:
    pixels = noise(5, 7)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = load_picture(tmp_path / "a.png")
    assert loaded.dtype == np.uint8 and loaded.flags.writeable
    np.testing.assert_array_equal(loaded, pixels)


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_load_picture_applies_the_exif_orientation(tmp_path: Path, orientation: int, turns: int) -> None:
    pixels = noise(5, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), np.rot90(pixels, turns))


def test_load_picture_lays_transparent_parts_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), expected)


def test_load_picture_lays_a_transparent_palette_colour_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([9, 9, 9, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png"), [[[255, 255, 255], [40, 50, 60]]])


def test_load_picture_scales_16_bit_grey_instead_of_clipping_it(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png")[0, :, 0], [0, 100, 255])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_load_picture_converts_other_modes_to_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (6, 4), "white").convert(mode).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_picture(tmp_path / "a.tif"), np.full((4, 6, 3), 255))


def test_load_picture_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jpg.*no such file"):
        load_picture(tmp_path / "none.jpg")


def test_load_picture_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder"):
        load_picture(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\xff\xd8\xff"])
def test_load_picture_refuses_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.jpg"):
        load_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_load_picture_refuses_a_truncated_file(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(64, 64)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UsageError, match=r"a\."):
        load_picture(path)


def test_load_picture_refuses_float_pixels(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UsageError, match="32 bits"):
        load_picture(tmp_path / "a.tif")


def test_list_pictures_sorts_by_name_and_leaves_other_files_out(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.webp", "notes.txt", ".hidden.jpg", "._b.JPG"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "c.webp"]


@pytest.mark.parametrize("layout", ["image", "eg1800/image"])
def test_list_pictures_takes_the_images_of_a_data_set_and_not_its_mattes(tmp_path: Path, layout: str) -> None:
    images = tmp_path / layout
    mattes = images.parent / "alpha"
    for place in (images, mattes):
        place.mkdir(parents=True)
        (place / "a.png").touch()
    assert list_pictures(tmp_path) == [images / "a.png"]


def test_list_pictures_refuses_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(UsageError, match="no pictures"):
        list_pictures(tmp_path)


def test_list_pictures_refuses_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        list_pictures(tmp_path / "none")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UsageError, match="it is a file"):
        list_pictures(tmp_path / "a.png")


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_to_input_normalizes_each_channel_in_its_order(color: str) -> None:
    spec = ImageSpec(color=color, mean=(1.0, 2.0, 3.0), scale=(0.5, 0.25, 0.125))  # type: ignore[arg-type]
    picture = np.full((4, 4, 3), (101, 102, 103), np.uint8)
    result = to_input(picture, spec, (4, 4))
    order = (101, 102, 103) if color == "RGB" else (103, 102, 101)
    expected = [(order[0] - 1) * 0.5, (order[1] - 2) * 0.25, (order[2] - 3) * 0.125]
    assert result.dtype == np.float32 and result.flags.c_contiguous
    np.testing.assert_array_equal(result[0, :, 2, 3], expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", [STRETCH, LETTERBOX])
def test_to_input_takes_any_picture_and_repeats_itself(shape: tuple[int, int], spec: ImageSpec) -> None:
    picture = noise(*shape)
    first = to_input(picture, spec, (64, 96))
    assert first.shape == (1, 3, 64, 96)
    np.testing.assert_array_equal(first, to_input(picture.copy(), spec, (64, 96)))


def test_to_input_at_the_pictures_own_size_keeps_every_pixel() -> None:
    picture = noise(32, 48)
    np.testing.assert_array_equal(to_input(picture, PIXELS, (32, 48))[0].transpose(1, 2, 0), picture)


def test_to_input_averages_where_it_shrinks() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[::2, ::2] = 200
    np.testing.assert_array_equal(to_input(picture, PIXELS, (4, 4)), np.full((1, 3, 4, 4), 50))


def test_to_input_averages_the_shrinking_axis_while_the_other_grows() -> None:
    picture = np.zeros((2, 64, 3), np.uint8)
    picture[:, ::8] = 160  # one column in eight, between the samples that plain bilinear would take
    np.testing.assert_array_equal(to_input(picture, PIXELS, (16, 8)), np.full((1, 3, 16, 8), 20))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((50, 100), slice(16, 48), slice(0, 64)), ((100, 50), slice(0, 64), slice(16, 48))],
)
def test_to_input_centres_a_letterboxed_picture_between_bars(
    shape: tuple[int, int], rows: slice, columns: slice
) -> None:
    spec = ImageSpec(resize="letterbox", fill=128, scale=(1.0, 1.0, 1.0))
    expected = np.full((1, 3, 64, 64), 128)
    expected[:, :, rows, columns] = 255
    np.testing.assert_array_equal(to_input(np.full((*shape, 3), 255, np.uint8), spec, (64, 64)), expected)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_to_input_refuses_other_arrays(picture: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8"):
        to_input(picture, STRETCH, (32, 32))


def test_to_input_reproduces_the_golden_input(shared: Path) -> None:
    golden = load_file(shared / "networks" / "portraitnet_video.safetensors")
    result = to_input(golden["image"], PORTRAITNET_VIDEO.image, (224, 224))
    # the golden input is stored as float16: values below 4 are rounded by at most 2 ** -10
    assert np.abs(result - golden["input"][:, :3].astype(np.float32)).max() <= 2**-10


@pytest.mark.parametrize("spec", [STRETCH, LETTERBOX])
@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (100, 300), (1, 1)])
def test_from_output_returns_a_picture_sent_through_to_input(spec: ImageSpec, shape: tuple[int, int]) -> None:
    picture = smooth(*shape)
    alpha = to_input(picture, spec, (256, 320))[:, :1]
    matte = from_output(alpha, spec, picture.shape)
    assert matte.shape == shape and matte.dtype == np.float32
    # a step of the slope, plus the rounding to 8 bits
    step = max(np.abs(np.diff(picture[:, :, 0].astype(int), axis=axis)).max(initial=0) for axis in (0, 1))
    assert np.abs(matte - picture[:, :, 0] / 255).max() <= (step + 1) / 255


@pytest.mark.parametrize("shape", [(50, 100), (100, 50), (33, 100), (3000, 2)])
def test_from_output_lets_nothing_of_the_bars_in(shape: tuple[int, int]) -> None:
    white = np.full((*shape, 3), 255, np.uint8)
    spec = ImageSpec(resize="letterbox", fill=0)
    alpha = to_input(white, spec, (64, 64))[:, :1]
    np.testing.assert_array_equal(from_output(alpha, spec, shape), np.ones(shape))


def test_from_output_interpolates_between_pixel_centres() -> None:
    alpha = np.array([[[[0.0, 1.0]]]], np.float32)
    np.testing.assert_array_equal(from_output(alpha, STRETCH, (1, 4)), [[0.0, 0.25, 0.75, 1.0]])


def test_from_output_clamps_an_overshooting_matte() -> None:
    alpha = np.array([[[[-0.5, 1.5]]]], np.float32)
    np.testing.assert_array_equal(from_output(alpha, STRETCH, (1, 2)), [[0.0, 1.0]])


def test_from_output_refuses_other_shapes() -> None:
    with pytest.raises(UsageError, match="1 x 1 x H x W"):
        from_output(np.zeros((1, 2, 4, 4), np.float32), STRETCH, (4, 4))


def test_sample_pictures_are_small_portraits_with_their_provenance() -> None:
    pictures = sample_pictures()
    assert [path.name for path in pictures] == ["astronaut.jpg", "president.jpg"]
    readme = (pictures[0].parent / "README.md").read_text()
    for path in pictures:
        assert max(load_picture(path).shape) <= 800
        assert path.stat().st_size < 150_000
        assert path.name in readme


def test_sample_pictures_come_from_the_recorded_originals(shared: Path) -> None:
    records = json.loads((shared / "data" / "dev" / "provenance.json").read_text())
    sums = {Path(r["path"]).name: r["sha256"] for r in records if "public_domain" in r.get("path", "")}
    readme = (sample_pictures()[0].parent / "README.md").read_text()
    assert len(sums) == 2
    assert all(checksum in readme for checksum in sums.values())
