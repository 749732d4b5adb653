"""int8 inside convolutions: which layers that pays for, what is written, and what is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobile_matting_export.errors import PlanRefused, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.quantize_dynamic import (
    _check,
    list_dynamic_layers,
    list_slower_layers,
    quantize_dynamic,
)
from mobile_matting_export.formats.tflite.read_file import read_file

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def full(small_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return TFLITE.emit(small_graph, "fp32", tmp_path_factory.mktemp("full"), "net")


def _weights(path: Path) -> dict[str, str]:
    """Output of each convolution -> type of its weights."""
    graph = read_file(path).main
    return {
        graph.tensors[op.outputs[0]].name: graph.tensors[op.inputs[1]].dtype
        for op in graph.operators
        if op.kind == "CONV_2D"
    }


def test_convolutions_of_one_tap_are_not_worth_it(full: tuple[Path, ...]) -> None:
    modules = {layer.name: layer.module for layer in list_dynamic_layers(full)}

    assert {modules[name] for name in list_slower_layers(full)} == {"head"}
    assert set(modules.values()) == {"encoder.conv", "decoder.conv", "head"}


def test_chosen_weights_are_int8_and_everything_else_stays_float(full: tuple[Path, ...], tmp_path: Path) -> None:
    slower = list_slower_layers(full)
    made = quantize_dynamic(full, slower, tmp_path, "net")

    graph = read_file(made[0]).main
    assert {name for name, dtype in _weights(made[0]).items() if dtype == "FLOAT32"} == slower
    assert {graph.tensors[op.outputs[0]].dtype for op in graph.operators} == {"FLOAT32"}
    frame = {"image": np.random.default_rng(0).random((1, 3, 32, 24), np.float32)}
    mattes = []
    for files in (full, made):
        session = TFLITE.open(files, "cpu")
        mattes.append(session.run(frame)["alpha"])
        session.close()
    # measured 1.6e-4
    assert 0 < np.abs(mattes[0] - mattes[1]).max() < 1e-3


def test_all_in_float_is_the_float_file(full: tuple[Path, ...], tmp_path: Path) -> None:
    every = frozenset(layer.name for layer in list_dynamic_layers(full))

    assert quantize_dynamic(full, every, tmp_path, "net")[0].read_bytes() == full[0].read_bytes()


def test_same_inputs_same_bytes_and_an_absent_layer_is_named(full: tuple[Path, ...], tmp_path: Path) -> None:
    first = quantize_dynamic(full, frozenset(), tmp_path, "first")[0].read_bytes()

    assert quantize_dynamic(full, frozenset(), tmp_path, "again")[0].read_bytes() == first
    with pytest.raises(UsageError, match=r"is called net\.absent"):
        quantize_dynamic(full, frozenset({"net.absent"}), tmp_path, "net")


def test_a_file_against_its_plan_is_found(full: tuple[Path, ...], tmp_path: Path) -> None:
    made = quantize_dynamic(full, frozenset(), tmp_path, "net")

    with pytest.raises(PlanRefused, match="wrote it in int8"):
        _check(read_file(full[0]).main, read_file(made[0]).main, set())
