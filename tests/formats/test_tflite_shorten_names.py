"""Short names: one for each tensor, telling the module, in a file that is otherwise the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import lower
from mobile_matting_export.formats.tflite.find_module import find_module
from mobile_matting_export.formats.tflite.read_file import Operator, Signature, Subgraph, Tensor, TfliteFile, read_file
from mobile_matting_export.formats.tflite.run import open_session
from mobile_matting_export.formats.tflite.shorten_names import short_names, shorten_names

pytestmark = pytest.mark.toolchain

LONG = "pkg.Net/pkg.Block_up/torch.nn.modules.conv.Conv2d_conv;"


@pytest.fixture(scope="module")
def long_file(small_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network with the names that litert-torch gave."""
    target = tmp_path_factory.mktemp("long") / "long.tflite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lower, "shorten_names", lambda path: None)
        lower.emit(small_graph, "fp32", target.parent, "long")
    return target


@pytest.fixture(scope="module")
def short_file(long_file: Path) -> Path:
    target = long_file.with_name("short.tflite")
    target.write_bytes(long_file.read_bytes())
    shorten_names(target)
    return target


def graph_of(*names: str, constants: tuple[str, ...] = (), inputs: tuple[str, ...] = ()) -> Subgraph:
    """A chain of operators that compute ``names``, the last of which is the output."""
    tensors = [Tensor(name, (1,), "FLOAT32", name in constants) for name in (*inputs, *constants, *names)]
    first = len(inputs) + len(constants)
    results = range(first, len(tensors))
    operators = [Operator("RELU", 1, (index - 1,), (index,), {}) for index in results]
    return Subgraph(tuple(tensors), tuple(operators), tuple(range(len(inputs))), (results[-1],))


def short(*graphs: Subgraph) -> list[list[str]]:
    return short_names(TfliteFile(graphs, (Signature("matte", 0, {}, {}),)))


def test_results_are_numbered_by_module_and_constants_alone() -> None:
    graph = graph_of(LONG, f"{LONG}1", "nothing known", "out", constants=("w", "b"), inputs=("in",))
    assert short(graph) == [["in", "1", "2", "up.conv@1", "up.conv@2", "@1", "out"]]


def test_names_differ_over_all_graphs_and_from_those_kept() -> None:
    first = graph_of(LONG, "up.conv@1", constants=("w",), inputs=("1",))
    second = graph_of(LONG, "out", constants=("w",), inputs=("in",))
    names = short(first, second)
    assert names == [["1", "2", "up.conv@2", "up.conv@1"], ["in", "3", "up.conv@3", "out"]]


def test_every_operation_of_a_file_is_known_by_its_result_and_module(long_file: Path, short_file: Path) -> None:
    before, after = read_file(long_file).main, read_file(short_file).main
    results = [after.tensors[index].name for op in after.operators for index in op.outputs]
    assert results[-1] == "matte_alpha_output" and "encoder.conv@1" in results
    names = [tensor.name for tensor in after.tensors]
    assert len(set(names)) == len(names)
    assert not any(";" in name or "/" in name for name in names)
    modules = [[find_module(graph.tensors[op.outputs[0]].name) for op in graph.operators] for graph in (before, after)]
    assert modules[0] == modules[1]


def test_nothing_but_names_changed_and_constants_are_aligned(long_file: Path, short_file: Path) -> None:
    before, after = read_file(long_file), read_file(short_file)
    assert before.signatures == after.signatures
    assert before.main.operators == after.main.operators
    assert (before.main.inputs, before.main.outputs) == (after.main.inputs, after.main.outputs)
    assert [(t.shape, t.dtype, t.constant) for t in before.main.tensors] == [
        (t.shape, t.dtype, t.constant) for t in after.main.tensors
    ]
    assert short_file.stat().st_size < long_file.stat().st_size


def test_the_runtime_computes_the_same(long_file: Path, short_file: Path, small_graph: ExportGraph) -> None:
    image = {"image": small_graph.inputs["image"].numpy()}
    alphas = [torch.from_numpy(open_session((path,), "cpu").run(image)["alpha"]) for path in (long_file, short_file)]
    assert torch.equal(alphas[0], alphas[1])


def test_short_names_stay(short_file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tflite"
    again.write_bytes(short_file.read_bytes())
    shorten_names(again)
    assert again.read_bytes() == short_file.read_bytes()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"no TFLite file")
    with pytest.raises(UsageError, match="is not a TFLite file"):
        shorten_names(path)
