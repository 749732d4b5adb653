"""int8 files: the arithmetic is that of the formula, the plan is what the file says, the official bytes come out."""

from __future__ import annotations

import struct
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.ncnn.list_int8_layers import list_int8_layers
from mobile_matting_export.formats.ncnn.observe_blobs import observe
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, parse, read
from mobile_matting_export.formats.ncnn.quantize_int8 import (
    Scales,
    input_scale,
    quantize,
    to_int8,
    weight_scales,
    write_int8,
)
from mobile_matting_export.formats.ncnn.walk_weights import (
    FLOAT16_TAG,
    FLOAT32_TAG,
    INT8_TAG,
    INT8_TERM,
    Stored,
    walk_weights,
)
from mobile_matting_export.quantization.ranges import Range

Frames = list[dict[str, np.ndarray]]
NONE: frozenset[str] = frozenset()

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def ranges(gated_files: tuple[Path, ...], gated_frames: Frames) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for name, values in observe(gated_files, gated_frames):
        peak = max(float(np.abs(values).max()), found[name].high if name in found else 0.0)
        found[name] = Range(-peak, peak)
    return found


def run(files: tuple[Path, ...], frame: dict[str, np.ndarray]) -> np.ndarray:
    session = NCNN.open(files, "cpu")
    try:
        return session.run(frame)["alpha"]
    finally:
        session.close()


def terms(files: tuple[Path, ...]) -> dict[str, int]:
    return {layer.name: layer.setting(INT8_TERM) for layer in read(files[0]).layers if layer.setting(INT8_TERM)}


def stored_of(files: tuple[Path, ...]) -> dict[str, list[Stored]]:
    blocks = walk_weights(read(files[0]), files[1].read_bytes())
    return {name: list(group) for name, group in groupby(blocks, lambda stored: stored.layer.name)}


def convolution(folder: Path, weights: np.ndarray, bias: np.ndarray, size: int) -> tuple[Path, ...]:
    """An fp32 network of one 3x3 convolution; ``weights`` are 1 x inputs x 3 x 3."""
    network = ParamFile(
        (
            Layer("Input", "in0", (), ("image",), {0: f"{size}", 1: f"{size}", 2: f"{weights.shape[1]}"}),
            Layer(
                *("Convolution", "conv", ("image",), ("alpha",)),
                {0: "1", 1: "3", 4: "1", 5: "1", 6: f"{weights.size}"},
            ),
        )
    )
    files = (folder / "one.param", folder / "one.bin")
    files[0].write_text(network.to_text())
    files[1].write_bytes(struct.pack("<I", FLOAT32_TAG) + weights.astype("<f4").tobytes() + bias.tobytes())
    return files


def test_result_is_that_of_integers_scaled_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights, bias = random.normal(size=(1, 4, 3, 3)).astype("<f4"), np.array([0.25], "<f4")
    frame = {"image": random.normal(size=(1, 4, 8, 8)).astype(np.float32)}
    files = quantize(convolution(tmp_path, weights, bias, 8), {"image": Range(-1, 2)}, NONE, tmp_path, "int8")
    # the range's larger end, and what is outside is clipped: some values here are
    assert (np.abs(frame["image"]) > 2).any()
    numbers = np.clip(np.round(frame["image"] * (127 / 2)), -127, 127).astype(int)
    scale = 127 / np.abs(weights).max()
    kernel = np.round(weights * scale).astype(int)
    padded = np.pad(numbers[0], ((0, 0), (1, 1), (1, 1)))
    sums = [[(padded[:, y : y + 3, x : x + 3] * kernel[0]).sum() for x in range(8)] for y in range(8)]
    expected = np.array(sums) / (scale * 127 / 2) + bias
    np.testing.assert_allclose(run(files, frame)[0, 0], expected, atol=1e-5)  # 1e-6 measured


@pytest.mark.parametrize("channels", [64, 256])
def test_winograd_cannot_overflow(channels: int, tmp_path: Path) -> None:
    board = np.where(np.indices((16, 16)).sum(0) % 2, 1, -1).astype(np.float32)
    frame = {"image": np.broadcast_to(board, (1, channels, 16, 16)).copy()}
    weights = np.broadcast_to(board[:3, :3], (1, channels, 3, 3))
    full = convolution(tmp_path, weights, np.zeros(1, "<f4"), 16)
    files = quantize(full, {"image": Range(-1, 1)}, NONE, tmp_path, "int8")
    exact = run(full, frame)
    assert np.abs(run(files, frame) - exact).max() < 1e-5 * np.abs(exact).max()  # 2.8e-6 measured
    # the guard is needed: without it sums of 16 bits wrap around
    files[0].write_text(files[0].read_text().replace(" 31=64", ""))
    assert np.abs(run(files, frame) - exact).max() > 0.5 * np.abs(exact).max()


def test_layers_are_int8_as_planned_and_pass_int8_on(
    gated_files: tuple[Path, ...], gated_frames: Frames, ranges: dict[str, Range], tmp_path: Path
) -> None:
    files = quantize(gated_files, ranges, NONE, tmp_path, "int8")
    # 100 more where int8 convolutions alone read the output
    assert terms(files) == {"convrelu_0": 102, "convdwrelu_0": 101, "conv_7": 2, "fcsigmoid_0": 2, "convsigmoid_1": 2}
    blocks = stored_of(files)
    *_, given, taken = blocks["convrelu_0"]
    assert taken.values() == blocks["convdwrelu_0"][-2].values() != given.values()
    assert max(float(np.abs(run(files, frame) - run(gated_files, frame)).max()) for frame in gated_frames) < 0.01
    assert files[1].stat().st_size < 0.4 * gated_files[1].stat().st_size


def test_output_of_the_network_stays_float_where_an_int8_layer_reads_it(tmp_path: Path) -> None:
    settings = {0: "1", 1: "1", 6: "1"}
    network = ParamFile(
        (
            Layer("Input", "in0", (), ("image",), {0: "4", 1: "4", 2: "1"}),
            Layer("Convolution", "one", ("image",), ("x",), settings),
            Layer("Split", "split", ("x",), ("y", "state")),
            Layer("Convolution", "two", ("y",), ("alpha",), settings),
        )
    )
    full = (tmp_path / "full.param", tmp_path / "full.bin")
    full[0].write_text(network.to_text())
    full[1].write_bytes((struct.pack("<I", FLOAT32_TAG) + np.array([0.3], "<f4").tobytes()) * 2)
    ranges = {"image": Range(-1, 1), "x": Range(-0.3, 0.3)}
    files = quantize(full, ranges, NONE, tmp_path, "int8")
    assert terms(files) == {"one": 2, "two": 2}
    frame = {"image": np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)}
    session = NCNN.open(files, "cpu")
    np.testing.assert_allclose(session.run(frame)["state"], 0.3 * frame["image"], atol=0.5 * 0.3 / 127 + 1e-6)
    session.close()


def test_layers_kept_in_float_are_stored_as_in_an_fp16_file(
    gated_files: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    kept = frozenset({"convrelu_0", "conv_7"})
    files = quantize(gated_files, ranges, kept, tmp_path, "mixed")
    assert terms(files) == {"convdwrelu_0": 1, "fcsigmoid_0": 2, "convsigmoid_1": 2}
    blocks, before = stored_of(files), stored_of(gated_files)
    assert blocks["conv_7"][0].tag == blocks["deconv_9"][0].tag == FLOAT16_TAG
    assert [one.raw for one in blocks["convrelu_0"]] == [one.raw for one in before["convrelu_0"]]  # small
    assert blocks["fcsigmoid_0"][0].tag == INT8_TAG
    # arithmetic around windows that are averaged stays fp32 on phones, as in an fp16 file
    assert next(layer for layer in read(files[0]).layers if layer.type == "Pooling").setting(31) == 1


def test_all_kept_in_float_needs_no_range(gated_files: tuple[Path, ...], tmp_path: Path) -> None:
    kept = frozenset(layer.name for layer in list_int8_layers(gated_files))
    assert terms(quantize(gated_files, {}, kept, tmp_path, "float")) == {}


def test_same_inputs_give_the_same_bytes(
    gated_files: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    again = dict(reversed(ranges.items()))
    one = quantize(gated_files, ranges, NONE, tmp_path, "one")
    two = quantize(gated_files, again, NONE, tmp_path, "two")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_bias_is_shifted_and_made_where_there_is_none(
    gated_files: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    shift = {name: np.linspace(-1, 1, 16, dtype=np.float32) for name in ("convrelu_0", "convdwrelu_0")}
    before = stored_of(gated_files)
    after = stored_of(quantize(gated_files, ranges, NONE, tmp_path, "shifted", shift))
    np.testing.assert_array_equal(
        after["convrelu_0"][1].values(), before["convrelu_0"][1].values() + shift["convrelu_0"]
    )
    assert len(before["convdwrelu_0"]) == 1
    assert after["convdwrelu_0"][0].layer.setting(5) == 1
    np.testing.assert_array_equal(after["convdwrelu_0"][1].values(), shift["convdwrelu_0"])


def test_unknown_layers_are_refused_by_name(
    gated_files: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"conv_8, deconv_9 cannot be kept in float: .*it has convrelu_0, convdw"):
        quantize(gated_files, ranges, frozenset({"deconv_9", "conv_8", "conv_7"}), tmp_path, "x")
    with pytest.raises(UsageError, match=r"nowhere cannot be corrected"):
        quantize(gated_files, ranges, NONE, tmp_path, "x", {"nowhere": np.zeros(1, np.float32)})
    assert not list(tmp_path.iterdir())


def test_blob_without_range_is_named(gated_files: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path) -> None:
    partly = {name: found for name, found in ranges.items() if name != "image"}
    with pytest.raises(ConversionError, match=r"no range of blob 'image', which layer 'convrelu_0' reads"):
        quantize(gated_files, partly, NONE, tmp_path, "x")


def test_int8_files_are_not_quantized_again(
    gated_files: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    files = quantize(gated_files, ranges, NONE, tmp_path, "int8")
    with pytest.raises(ConversionError, match="are not float32"):
        quantize(files, ranges, NONE, tmp_path, "again")


def test_rounding_goes_away_from_zero_and_never_to_minus_128() -> None:
    values = np.array([0.5, -0.5, 0.49999997, 1.5, -2.5, 126.5, 300, -300], np.float32)
    np.testing.assert_array_equal(to_int8(values), [1, -1, 0, 2, -3, 127, 127, -127])


def test_empty_channels_and_blobs_have_a_scale() -> None:
    layer = Layer("Convolution", "conv", ("a",), ("b",), {0: "2", 1: "1", 6: "4"})
    np.testing.assert_array_equal(weight_scales(layer, np.array([0, 0, 0.5, -1], "<f4")), [1, 127])
    assert input_scale(Range(0.0, 0.0)) == 1
    assert input_scale(Range(-0.5, 2.0)) == 127 / 2


@pytest.mark.parametrize("peer", ["ldn_fb128", "mmnet"])
def test_scales_of_the_official_tool_give_its_bytes(peer: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "peers" / peer
    full, official = (tuple(folder / f"pnnx.{kind}.{end}" for end in ("param", "bin")) for kind in ("fp32", "int8"))
    scales = {}
    for name, blocks in stored_of(official).items():
        layer = blocks[0].layer
        if layer.setting(INT8_TERM):
            weights, value = blocks[1 + layer.setting(5)], blocks[2 + layer.setting(5)]
            scales[name] = Scales(weights.values(), float(value.values()[0]))
    assert len(scales) == {"ldn_fb128": 8, "mmnet": 106}[peer]
    sized = tmp_path / "sized.param"  # the tool leaves the size open, we run what we write
    side = {"ldn_fb128": 128, "mmnet": 256}[peer]
    sized.write_text(_with_size(full[0].read_text(), side))
    files = write_int8((sized, full[1]), scales, tmp_path, "ours")
    assert files[1].read_bytes() == official[1].read_bytes()
    assert terms(files) == terms(official)


def _with_size(text: str, side: int) -> str:
    def state(layer: Layer) -> Layer:
        if layer.type != "Input":
            return layer
        return layer.with_setting(0, side).with_setting(1, side).with_setting(2, 3)

    return parse(text).map(state).to_text()
