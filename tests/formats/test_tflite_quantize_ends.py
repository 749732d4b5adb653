"""8-bit ends of int8 files: types in the file, the same mattes as with float ends, states and bytes left alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.list_int8_layers import list_int8_layers, list_tail
from mobile_matting_export.formats.tflite.quantize_ends import quantize_ends
from mobile_matting_export.formats.tflite.quantize_int8 import observe, quantize
from mobile_matting_export.formats.tflite.read_ends import read_ends
from mobile_matting_export.formats.tflite.read_file import read_file
from mobile_matting_export.formats.tflite.record_tensors import record_tensors
from mobile_matting_export.quantization.choose_range import choose_range
from mobile_matting_export.quantization.histogram import collect_histograms
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.quantization.ranges import Range

pytestmark = pytest.mark.toolchain

# of alpha, and what float32 adds
HALF_A_STEP = 0.5 / 255 + 1e-6


class Int8Net:
    """An fp32 file with frames, their ranges, and the int8 file of them with float ends."""

    def __init__(self, graph: ExportGraph, folder: Path, keep_float: frozenset[str] = frozenset()) -> None:
        generator = np.random.default_rng(0)
        shapes = {name: tuple(example.shape) for name, example in graph.inputs.items()}
        self.frames: list[dict[str, np.ndarray]] = [
            {
                name: generator.integers(0, 256, shape).astype(np.float32)
                if name in graph.byte_inputs
                else generator.random(shape, np.float32) - 0.5
                for name, shape in shapes.items()
            }
            for _ in range(4)
        ]
        self.full = TFLITE.emit(graph, "fp32", folder, "full")
        histograms = collect_histograms(lambda: observe(self.full, self.frames))
        self.ranges: dict[str, Range] = {name: choose_range(one, "minmax") for name, one in histograms.items()}
        (self.int8,) = quantize(self.full, self.ranges, list_tail(self.full) | keep_float, folder, "net")

    def with_ends(self, kind: IoKind, folder: Path) -> Path:
        made = folder / f"{kind}.tflite"
        shutil.copy(self.int8, made)
        quantize_ends(made, kind, self.ranges)
        return made


@pytest.fixture(scope="module")
def net(small_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Int8Net:
    return Int8Net(small_graph, tmp_path_factory.mktemp("net"))


def run(path: Path, frame: Mapping[str, np.ndarray]) -> np.ndarray:
    session = TFLITE.open((path,), "cpu")
    alpha = session.run(frame)["alpha"]
    session.close()
    return alpha


def kinds(path: Path) -> list[str]:
    return [operator.kind for operator in read_file(path).main.operators]


@pytest.mark.parametrize(("kind", "lowest"), [("int8", -128), ("uint8", 0)])
def test_both_ends_have_the_type_and_the_matte_stays(net: Int8Net, kind: IoKind, lowest: int, tmp_path: Path) -> None:
    made = net.with_ends(kind, tmp_path)

    ends = read_ends((made,))
    assert {end: told["dtype"] for end, told in ends.items()} == {"image": kind, "alpha": kind}
    assert ends["alpha"]["quantization"] == {"scale": float(np.float32(1 / 255)), "zero_point": lowest}
    image = ends["image"]["quantization"]
    assert image["scale"] == pytest.approx(1 / 255, rel=0.01) and image["zero_point"] == lowest + 128
    for frame in net.frames:
        expected, alpha = run(net.int8, frame), run(made, frame)
        assert alpha.dtype == np.float32 and alpha.shape == expected.shape
        # measured 0.00195: our rounding of the image is the file's own, so only alpha's is added
        assert np.abs(alpha - expected).max() <= HALF_A_STEP


def test_int8_takes_the_place_of_the_rounding_and_nothing_is_left_over(net: Int8Net, tmp_path: Path) -> None:
    made = net.with_ends("int8", tmp_path)

    assert kinds(net.int8)[0] == "QUANTIZE"
    assert kinds(made) == [*kinds(net.int8)[1:], "QUANTIZE"]
    graph = read_file(made).main
    assert {index for op in graph.operators for index in (*op.inputs, *op.outputs)} - {-1} == set(
        range(len(graph.tensors))
    )


def test_a_first_layer_in_float_reads_the_image_through_a_dequantize(
    small_graph: ExportGraph, net: Int8Net, tmp_path: Path
) -> None:
    first = list_int8_layers(net.full)[0].name
    layers = [layer.name for layer in list_int8_layers(net.full) if layer.module == "encoder.conv"]
    mixed = Int8Net(small_graph, tmp_path, frozenset({first, *layers}))

    made = mixed.with_ends("int8", tmp_path)

    assert kinds(mixed.int8)[0] != "QUANTIZE" and kinds(made)[0] == "DEQUANTIZE"
    assert read_file(made).main.operators[0].version == 2  # 1 knows uint8 alone
    # the image is rounded now, too: measured 0.0024
    assert np.abs(run(made, mixed.frames[0]) - run(mixed.int8, mixed.frames[0])).max() < 0.005


def test_states_stay_float(video_graph: ExportGraph, tmp_path: Path) -> None:
    video = Int8Net(video_graph, tmp_path)

    made = video.with_ends("uint8", tmp_path)

    assert set(read_ends((made,))) == {"image", "alpha"}
    assert np.abs(run(made, video.frames[0]) - run(video.int8, video.frames[0])).max() <= HALF_A_STEP


def test_pixels_as_bytes_stay_and_are_not_int8(small_graph: ExportGraph, tmp_path: Path) -> None:
    graph = ExportGraph(small_graph.module, small_graph.inputs, ("image",))
    pixels = Int8Net(graph, tmp_path)

    made = pixels.with_ends("uint8", tmp_path)

    ends = read_ends((made,))
    assert ends["image"] == {"dtype": "uint8"} and ends["alpha"]["dtype"] == "uint8"
    assert np.abs(run(made, pixels.frames[0]) - run(pixels.int8, pixels.frames[0])).max() <= HALF_A_STEP
    with pytest.raises(ConversionError, match="use --io uint8"):
        pixels.with_ends("int8", tmp_path)


def test_float_leaves_the_file_and_same_inputs_give_same_bytes(net: Int8Net, tmp_path: Path) -> None:
    assert net.with_ends("float", tmp_path).read_bytes() == net.int8.read_bytes()
    assert read_ends((net.int8,)) == {}
    (tmp_path / "again").mkdir()
    first, again = net.with_ends("uint8", tmp_path), net.with_ends("uint8", tmp_path / "again")
    assert first.read_bytes() == again.read_bytes()


def test_its_tensors_can_be_recorded(net: Int8Net, tmp_path: Path) -> None:
    made = net.with_ends("int8", tmp_path)

    recorded = record_tensors(made, net.frames[0])

    file = read_file(made)
    alpha = recorded[file.signatures[0].outputs["alpha"]]
    stored = np.rint(run(made, net.frames[0]).transpose(0, 2, 3, 1) * 255) - 128
    # kernels of the interpreter itself may round otherwise than XNNPACK's: measured 1
    assert alpha.dtype == np.int8 and np.abs(alpha - stored).max() <= 2
