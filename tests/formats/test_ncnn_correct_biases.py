"""What rounding adds to the mean of an output is found, for every kind of layer, and taken back by the bias."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.correct_biases import correct_biases
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile
from mobile_matting_export.formats.ncnn.quantize_int8 import quantize
from mobile_matting_export.formats.ncnn.walk_weights import FLOAT32_TAG
from mobile_matting_export.quantization.ranges import Range

pytestmark = pytest.mark.toolchain

OUTPUTS, INPUTS, SIZE = 6, 4, 12

# type, its settings, number of weights; without padding, so that there are no borders
KINDS = {
    "Convolution": ("Convolution", {0: OUTPUTS, 1: 3, 6: OUTPUTS * INPUTS * 9}),
    "Depthwise": ("ConvolutionDepthWise", {0: INPUTS, 1: 3, 6: INPUTS * 9, 7: INPUTS}),
    "Grouped": ("ConvolutionDepthWise", {0: OUTPUTS, 1: 3, 6: OUTPUTS * 2 * 9, 7: 2}),
    "InnerProduct": ("InnerProduct", {0: OUTPUTS, 2: OUTPUTS * INPUTS * SIZE * SIZE}),
}


def one_layer(kind: str, folder: Path) -> tuple[Path, ...]:
    """A network of one layer without bias."""
    type_, settings = KINDS[kind]
    texts = {key: str(value) for key, value in settings.items()}
    layers = [
        Layer("Input", "in0", (), ("image",), {0: f"{SIZE}", 1: f"{SIZE}", 2: f"{INPUTS}"}),
        Layer(type_, "layer", ("image",), ("x",), texts),
        Layer("Reshape", "shape", ("x",), ("alpha",), {0: "1", 1: "-1", 2: f"{settings[0]}"}),
    ]
    count = settings[2 if kind == "InnerProduct" else 6]
    # all of one sign: what is clipped and rounded does not cancel
    weights = np.random.default_rng(0).uniform(0.01, 1, count).astype("<f4")
    files = (folder / "one.param", folder / "one.bin")
    files[0].write_text(ParamFile(tuple(layers)).to_text())
    files[1].write_bytes(struct.pack("<I", FLOAT32_TAG) + weights.tobytes())
    return files


def mean_of(files: tuple[Path, ...], frames: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Mean over frames and pixels of each output."""
    loaded = net.LoadedNet(files, net.strict_fp32)
    try:
        return np.mean([loaded.run(frame)["alpha"][0].mean((1, 2)) for frame in frames], axis=0)
    finally:
        loaded.close()


@pytest.mark.parametrize("kind", KINDS)
def test_mean_of_each_output_is_that_of_float(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    # a level a channel, so that borders, which a valid convolution reads less often, have the same mean
    level = random.uniform(0.3, 1, (INPUTS, 1, 1))
    frames = [{"image": (level + random.normal(0, 0.3, (1, INPUTS, SIZE, SIZE))).astype(np.float32)} for _ in range(4)]
    files = one_layer(kind, tmp_path)
    ranges = {"image": Range(-1.0, 1.0)}  # clips a third
    exact = mean_of(files, frames)
    plain = mean_of(quantize(files, ranges, frozenset(), tmp_path, "plain"), frames)
    shift = correct_biases(files, ranges, frames)
    assert shift["layer"].shape == (KINDS[kind][1][0],)
    corrected = mean_of(quantize(files, ranges, frozenset(), tmp_path, "corrected", shift), frames)
    error, left = (float(np.abs(mean - exact).max()) for mean in (plain, corrected))
    assert error > 0.05 * np.abs(exact).max()
    # exact but for borders, which are read less often: 0.06 at most measured
    assert left < 0.1 * error


def test_nothing_to_take_back_where_int8_is_exact(tmp_path: Path) -> None:
    files = one_layer("Convolution", tmp_path)
    frames = [{"image": np.zeros((1, INPUTS, SIZE, SIZE), np.float32)}]
    assert not correct_biases(files, {"image": Range(-1, 1)}, frames)["layer"].any()


def test_no_frame_and_no_range_are_refused(tmp_path: Path) -> None:
    files = one_layer("Convolution", tmp_path)
    with pytest.raises(ConversionError, match="no frame to correct biases with"):
        correct_biases(files, {"image": Range(-1, 1)}, [])
    with pytest.raises(ConversionError, match="no range of blob 'image'"):
        correct_biases(files, {}, [{"image": np.zeros((1, INPUTS, SIZE, SIZE), np.float32)}])
