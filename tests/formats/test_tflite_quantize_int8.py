"""int8 TFLite files: what the plan says stands in the file, and what is silent in the quantizer is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.list_int8_layers import list_int8_layers, list_tail
from mobile_matting_export.formats.tflite.quantize_int8 import check_plan, observe, quantize
from mobile_matting_export.formats.tflite.read_file import read_file
from mobile_matting_export.quantization.choose_range import choose_range
from mobile_matting_export.quantization.histogram import collect_histograms
from mobile_matting_export.quantization.ranges import Range

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def frames() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [{"image": generator.random((1, 3, 32, 24), np.float32)} for _ in range(4)]


@pytest.fixture(scope="module")
def full(small_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return TFLITE.emit(small_graph, "fp32", tmp_path_factory.mktemp("full"), "net")


@pytest.fixture(scope="module")
def ranges(full: tuple[Path, ...], frames: list[dict[str, np.ndarray]]) -> dict[str, Range]:
    found = collect_histograms(lambda: observe(full, frames))
    return {name: choose_range(histogram, "minmax") for name, histogram in found.items()}


def _run(files: tuple[Path, ...], frame: Mapping[str, np.ndarray]) -> np.ndarray:
    session = TFLITE.open(files, "cpu")
    alpha = session.run(frame)["alpha"]
    session.close()
    return alpha


def _types(path: Path) -> dict[str, str]:
    """Output name of each operator, without what the quantizer adds -> type."""
    graph = read_file(path).main
    return {
        graph.tensors[op.outputs[0]].name: graph.tensors[op.outputs[0]].dtype
        for op in graph.operators
        if op.kind not in ("QUANTIZE", "DEQUANTIZE")
    }


def test_layers_are_known_by_unique_names_with_their_module_and_cost(full: tuple[Path, ...]) -> None:
    layers = list_int8_layers(full)

    assert len({layer.name for layer in layers}) == len(layers)
    encoder = next(layer for layer in layers if layer.module == "encoder.conv" and layer.kind == "CONV_2D")
    assert (encoder.macs, encoder.weight_bytes, encoder.elements) == (16 * 12 * 16 * 27, 4 * 16 * 27, 16 * 12 * 16)


def test_the_tail_is_what_stands_behind_the_last_weights(full: tuple[Path, ...]) -> None:
    kinds = {layer.name: layer.kind for layer in list_int8_layers(full)}

    assert {kinds[name] for name in list_tail(full)} == {"LOGISTIC"}


def test_everything_but_the_tail_becomes_int8_and_the_matte_stays(
    full: tuple[Path, ...], ranges: dict[str, Range], frames: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    tail = list_tail(full)

    made = quantize(full, ranges, tail, tmp_path, "net")

    types = _types(made[0])
    assert {types[layer.name] for layer in list_int8_layers(full) if layer.name in types} <= {"INT8", "FLOAT32"}
    assert sum(kind == "FLOAT32" for kind in types.values()) == len(tail)
    # measured 6e-4
    assert np.abs(_run(made, frames[0]) - _run(full, frames[0])).max() < 3e-3
    inputs = read_file(made[0]).main
    assert {inputs.tensors[i].dtype for i in (*inputs.inputs, *inputs.outputs)} == {"FLOAT32"}


def test_a_layer_that_is_kept_stays_float_and_only_it(
    full: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    kept = next(layer.name for layer in list_int8_layers(full) if layer.module == "decoder.conv")
    made = quantize(full, ranges, list_tail(full) | {kept}, tmp_path, "net")

    graph = read_file(made[0]).main
    floats = [op.kind for op in graph.operators if graph.tensors[op.outputs[0]].dtype == "FLOAT32"]
    assert floats.count("CONV_2D") == 1
    assert floats.count("LOGISTIC") == 1


def test_same_inputs_same_bytes(full: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first = quantize(full, ranges, list_tail(full), tmp_path, "net")
    second = quantize(full, ranges, list_tail(full), tmp_path / "again", "net")

    assert first[0].read_bytes() == second[0].read_bytes()


def test_an_absent_layer_and_a_missing_range_are_named(
    full: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no layer of this file that can be int8 is called net\.absent"):
        quantize(full, ranges, frozenset({"net.absent"}), tmp_path, "net")
    some = dict(ranges)
    name, _ = some.popitem()
    with pytest.raises(ConversionError, match="has no range"):
        quantize(full, some, frozenset(), tmp_path, "net")
    assert not list(tmp_path.iterdir()), name


def test_a_file_against_its_plan_is_found(full: tuple[Path, ...], ranges: dict[str, Range], tmp_path: Path) -> None:
    tail = list_tail(full)
    made = quantize(full, ranges, tail, tmp_path, "net")
    source, graph = read_file(full[0]).main, read_file(made[0]).main
    names = {layer.name for layer in list_int8_layers(full)}

    with pytest.raises(ConversionError, match="wrote it in float"):
        check_plan(source, graph, names)
    with pytest.raises(ConversionError, match="wrote it in int8"):
        check_plan(source, graph, names - tail - {next(iter(sorted(names - tail)))})
    with pytest.raises(ConversionError, match="changed the operations"):
        check_plan(graph, source, names)
