"""What the quantizer refuses is a refused plan; what the machine lacks is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mobile_matting_export.errors import ConversionError, PlanRefused, UsageError
from mobile_matting_export.formats.tflite.quantize_dynamic import list_dynamic_layers, quantize_dynamic
from mobile_matting_export.formats.tflite.read_file import Subgraph, read_file
from mobile_matting_export.formats.tflite.run_quantizer import match_layers, require_known, run_quantizer

pytestmark = pytest.mark.toolchain


def _dynamic(work: Any) -> None:
    from ai_edge_quantizer import recipe

    work.load_quantization_recipe(recipe.dynamic_wi8_afp32())


def _accept(made: Subgraph) -> None:
    assert made.operators


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_full_disk_and_memory_are_not_the_plans_fault(small_file: Path, tmp_path: Path, error: Exception) -> None:
    def fail(work: Any) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run_quantizer(small_file, tmp_path / "net.tflite", fail, None, _accept)
    assert raised.value is error
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_says_so_itself(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_quantizer(small_file, tmp_path / "absent" / "net.tflite", _dynamic, None, _accept)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), PlanRefused),
        (RuntimeError("x"), PlanRefused),
        (KeyError("x"), PlanRefused),
        (TypeError("x"), ConversionError),
        (AttributeError("x"), ConversionError),
    ],
)
def test_refusals_are_told_from_defects(
    small_file: Path, tmp_path: Path, error: Exception, kind: type[ConversionError]
) -> None:
    def fail(work: Any) -> None:
        raise error

    with pytest.raises(ConversionError, match=f"cannot make small.tflite int8: {type(error).__name__}") as raised:
        run_quantizer(small_file, tmp_path / "net.tflite", fail, None, _accept)
    assert type(raised.value) is kind
    assert not list(tmp_path.iterdir())


def test_the_quantizers_own_refusal_is_a_refused_plan(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match="RuntimeError: Can not quantize without a quantization recipe"):
        run_quantizer(small_file, tmp_path / "net.tflite", lambda work: None, None, _accept)


def test_a_refused_result_is_not_left(small_file: Path, tmp_path: Path) -> None:
    def refuse(made: Subgraph) -> None:
        raise PlanRefused("no")

    target = tmp_path / "net.tflite"
    target.write_bytes(b"old")
    with pytest.raises(PlanRefused, match="no"):
        run_quantizer(small_file, target, _dynamic, None, refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["net.tflite"]
    assert target.read_bytes() == b"old"


def test_dynamic_layers_that_stay_float_against_the_plan_are_found(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mobile_matting_export.formats.tflite import quantize_dynamic as module

    first, *others = [layer.name for layer in list_dynamic_layers((small_file,))]
    monkeypatch.setattr(module, "match_layers", lambda graph, names: match_layers(graph, {first}))
    with pytest.raises(PlanRefused, match=f"the plan has {others[0]} .*wrote it in float"):
        quantize_dynamic((small_file,), frozenset(), tmp_path, "net")
    assert not list(tmp_path.iterdir())


def test_layers_are_matched_by_name_and_must_be_there(small_file: Path) -> None:
    graph = read_file(small_file).main
    name = graph.tensors[graph.operators[0].outputs[0]].name
    assert match_layers(graph, {name, "absent"}) is not None
    assert match_layers(graph, {"absent"}) is None
    with pytest.raises(UsageError, match="is called a, b, c \\.\\.\\.; mmexport inspect"):
        require_known(frozenset("dcba"), {name})
