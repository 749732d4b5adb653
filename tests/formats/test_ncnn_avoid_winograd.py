from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.ncnn.avoid_winograd import avoid_winograd, describe_avoided
from mobile_matting_export.formats.ncnn.param import read

pytestmark = pytest.mark.toolchain


def convolution(folder: Path, side: int, inputs: int, outputs: int, settings: str = "1=3 4=1") -> tuple[Path, Path]:
    """Files of one convolution with seeded weights on a square map, as pnnx would write it."""
    kernel = int(settings.split()[0].removeprefix("1="))
    count = kernel * kernel * inputs * outputs
    param, weights = folder / "net.ncnn.param", folder / "net.ncnn.bin"
    param.write_text(
        "7767517\n2 2\n"
        f"Input in0 0 1 image 0={side} 1={side} 2={inputs}\n"
        f"Convolution conv 1 1 image alpha 0={outputs} {settings} 5=1 6={count}\n"
    )
    numbers = np.random.default_rng(0).normal(size=count).astype("<f4")
    weights.write_bytes(bytes(4) + numbers.tobytes() + np.zeros(outputs, "<f4").tobytes())
    return param, weights


def exactly(files: tuple[Path, Path], side: int, inputs: int, outputs: int) -> np.ndarray:
    """What the convolution is in float64."""
    image = np.random.default_rng(1).random((1, inputs, side, side), dtype=np.float32)
    weight = np.frombuffer(files[1].read_bytes()[4 : -4 * outputs], "<f4").reshape(outputs, inputs, 3, 3)
    return F.conv2d(torch.from_numpy(image).double(), torch.from_numpy(weight.copy()).double(), padding=1).numpy()


def run(files: tuple[Path, Path], side: int, inputs: int) -> np.ndarray:
    session = NCNN.open(files, "cpu")
    try:
        image = np.random.default_rng(1).random((1, inputs, side, side), dtype=np.float32)
        return session.run({"image": image})["alpha"]
    finally:
        session.close()


@pytest.mark.parametrize(("inputs", "outputs"), [(11, 8), (16, 16), (8, 2)])
def test_large_map_of_few_channels_is_computed_without(tmp_path: Path, inputs: int, outputs: int) -> None:
    files = convolution(tmp_path, 224, inputs, outputs)
    exact = exactly(files, 224, inputs, outputs)
    before = float(np.abs(run(files, 224, inputs) - exact).max())
    avoid_winograd(files)

    assert read(files[0]).layers[1].settings[31] == "64"
    (note,) = describe_avoided(files)
    assert note.startswith("computed without Winograd's algorithm: conv (") and "not timed on phones" in note
    after = float(np.abs(run(files, 224, inputs) - exact).max())
    # of sums up to 40; Winograd's transforms lose a digit that plain sums keep
    assert after <= before
    assert after < 3e-5
    avoid_winograd(files)
    assert read(files[0]).layers[1].settings[31] == "64"


@pytest.mark.parametrize(
    ("side", "inputs", "outputs", "settings"),
    [
        (128, 11, 8, "1=3 4=1"),
        (224, 24, 8, "1=3 4=1"),
        (224, 8, 32, "1=3 4=1"),
        (224, 8, 8, "1=5 4=2"),
        (448, 8, 8, "1=3 3=2 4=1"),
        (224, 8, 8, "1=3 2=2 4=2"),
    ],
    ids=["small map", "many inputs", "many outputs", "5x5", "stride 2", "dilated"],
)
def test_everything_else_stays_to_the_byte(tmp_path: Path, side: int, inputs: int, outputs: int, settings: str) -> None:
    files = convolution(tmp_path, side, inputs, outputs, settings)
    before = files[0].read_text()
    avoid_winograd(files)

    assert files[0].read_text() == before
    assert describe_avoided(files) == ()


def test_int8_is_not_told_of_since_it_is_without_for_another_reason(tmp_path: Path) -> None:
    files = convolution(tmp_path, 224, 8, 8, "1=3 4=1")
    avoid_winograd(files)
    files[0].write_text(files[0].read_text().replace(" 31=64", " 8=2 31=64"))

    assert describe_avoided(files) == ()
