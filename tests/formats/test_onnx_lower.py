from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mobile_matting_export.artifact import written_atomically
from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.onnx import ONNX
from mobile_matting_export.graph.capture import capture

SIZE = (24, 40)


class Small(nn.Module):
    """Convolution, the operator under test on 4 channels, convolution, sigmoid."""

    def __init__(self, middle: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = middle
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, image: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.last(self.middle(self.first(image), *more)))


class TwoImages(nn.Module):
    """Reads its second input first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.now, self.before = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.before(previous) - 2 * self.now(image))


class IgnoresFirst(Small):
    def forward(self, image: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return super().forward(more[0])


def graph_of(net: nn.Module, *names: str) -> ExportGraph:
    torch.manual_seed(1)
    inputs = {name: torch.rand(1, 3, *SIZE) for name in names or ("image",)}
    return ExportGraph(capture(net.eval(), inputs), inputs)


def settled_batch_norm() -> nn.BatchNorm2d:
    torch.manual_seed(2)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    return norm


def box_variance(x: torch.Tensor, *, count_include_pad: bool) -> torch.Tensor:
    def mean(y: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(y, 3, 1, 1, count_include_pad=count_include_pad)

    return mean(x * x) - mean(x) ** 2


def up_and_down(x: torch.Tensor, *, align_corners: bool) -> torch.Tensor:
    y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)
    return F.interpolate(y, size=SIZE, mode="bilinear", align_corners=align_corners)


MIDDLES = {
    "batch_norm": nn.Sequential(settled_batch_norm(), nn.ReLU()),
    "half_pixel_resize": lambda x: up_and_down(x, align_corners=False),
    "aligned_corners_resize": lambda x: up_and_down(x, align_corners=True),
    "prelu": nn.PReLU(4, init=0.3),
    "instance_norm": nn.InstanceNorm2d(4, affine=True),
    "box_filter_with_padding": lambda x: box_variance(x, count_include_pad=True),
    "box_filter_without_padding": lambda x: box_variance(x, count_include_pad=False),
    "ceiled_pool": lambda x: up_and_down(F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), align_corners=True),
    "global_pool": lambda x: x * F.adaptive_avg_pool2d(x, 1),
    "layer_norm": nn.LayerNorm((4, *SIZE)),
    "softmax": lambda x: torch.softmax(x, 1),
    "clamp": lambda x: torch.clamp(x, 0, 0.5),
}


def emitted(graph: ExportGraph, folder: Path) -> Path:
    (path,) = ONNX.emit(graph, "fp32", folder, "net")
    return path


def error_of(graph: ExportGraph, path: Path) -> float:
    """Largest difference to PyTorch over the whole map, borders included."""
    session = ONNX.open((path,), "cpu")
    result = session.run({name: example.numpy() for name, example in graph.inputs.items()})
    session.close()
    with torch.no_grad():
        expected = graph.module(*graph.inputs.values()).numpy()
    assert result["alpha"].shape == expected.shape == (1, 1, *SIZE)
    assert result["alpha"].dtype == np.float32
    assert expected.std() > 1e-3, "a constant alpha would agree with anything"
    return float(np.abs(result["alpha"] - expected).max())


@pytest.mark.toolchain
@pytest.mark.parametrize("name", MIDDLES)
def test_file_agrees_with_pytorch(name: str, tmp_path: Path) -> None:
    graph = graph_of(Small(MIDDLES[name]))
    assert error_of(graph, emitted(graph, tmp_path)) < 1e-5


@pytest.mark.toolchain
def test_two_inputs_keep_their_names_and_fixed_sizes(tmp_path: Path) -> None:
    graph = graph_of(TwoImages(), "image", "previous")
    path = emitted(graph, tmp_path)
    model = onnx.load(path)
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in model.graph.input}
    assert shapes == {"image": [1, 3, *SIZE], "previous": [1, 3, *SIZE]}
    assert [value.name for value in model.graph.output] == ["alpha"]
    assert error_of(graph, path) < 1e-5


@pytest.mark.toolchain
def test_batch_norm_is_folded_and_opset_is_17(tmp_path: Path) -> None:
    path = emitted(graph_of(Small(MIDDLES["batch_norm"])), tmp_path)
    assert ONNX.count_ops((path,)) == {"Conv": 2, "Relu": 1, "Sigmoid": 1}
    assert [(entry.domain, entry.version) for entry in onnx.load(path).opset_import] == [("", 17)]


@pytest.mark.toolchain
def test_file_says_nothing_of_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def talkative(model: onnx.ModelProto, check_n: int) -> tuple[onnx.ModelProto, bool]:
        graph = model.graph
        for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            part.doc_string = "/home/someone/train.py"
            part.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/train.py")
        graph.name = "/home/someone"
        return model, True

    monkeypatch.setattr("onnxsim.simplify", talkative)
    path = emitted(graph_of(Small(MIDDLES["box_filter_with_padding"])), tmp_path)
    assert b"someone" not in path.read_bytes()


@pytest.mark.toolchain
def test_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        path = emitted(graph_of(Small(MIDDLES["box_filter_with_padding"])), folder)
        assert list(folder.iterdir()) == [path], "nothing else is left in the folder"
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.toolchain
def test_operator_without_onnx_form_is_named_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = graph_of(Small(lambda x: F.interpolate(x, size=SIZE, mode="bilinear", antialias=True)))
    capfd.readouterr()
    with pytest.raises(ConversionError, match=r"_upsample_bilinear2d_aa.*write that operator differently"):
        emitted(graph, tmp_path)
    # the exporter would dump the graph on stdout, which belongs to the commands' results
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.toolchain
def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    graph = graph_of(Small(nn.ReLU()))
    capfd.readouterr()
    emitted(graph, tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.toolchain
def test_simplifier_that_changes_results_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxsim.simplify", lambda model, check_n: (model, False))
    with pytest.raises(ConversionError, match="onnxsim changed the results"):
        emitted(graph_of(Small(nn.ReLU())), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.toolchain
def test_simplifier_that_breaks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: onnx.ModelProto, check_n: int) -> None:
        raise RuntimeError("no such pass")

    monkeypatch.setattr("onnxsim.simplify", broken)
    with pytest.raises(ConversionError, match="onnxsim failed on the exported model: no such pass"):
        emitted(graph_of(Small(nn.ReLU())), tmp_path)


@pytest.mark.toolchain
def test_invalid_model_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(model: onnx.ModelProto, check_n: int) -> tuple[onnx.ModelProto, bool]:
        model.graph.node[0].input[0] = "nowhere"
        return model, True

    monkeypatch.setattr("onnxsim.simplify", spoiled)
    with pytest.raises(ConversionError, match="not valid ONNX"):
        emitted(graph_of(Small(nn.ReLU())), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.toolchain
def test_model_with_other_outputs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(model: onnx.ModelProto, check_n: int) -> tuple[onnx.ModelProto, bool]:
        model.graph.node[-1].output[0] = model.graph.output[0].name = "matte"
        return model, True

    monkeypatch.setattr("onnxsim.simplify", renamed)
    with pytest.raises(ConversionError, match=r"outputs \['matte'\]"):
        emitted(graph_of(Small(nn.ReLU())), tmp_path)


@pytest.mark.toolchain
def test_full_disk_is_explained(tiny_disk: Path) -> None:
    large = nn.Conv2d(4, 4, 151, padding=75)
    with (
        pytest.raises(UsageError, match=r"No space left on device while making .*mine"),
        written_atomically(tiny_disk / "mine") as scratch,
    ):
        emitted(graph_of(Small(large)), scratch)
    assert list(tiny_disk.iterdir()) == []


def test_divisor_that_the_exporter_drops_silently_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="divisor_override"):
        emitted(graph_of(Small(lambda x: F.avg_pool2d(x, 3, divisor_override=4))), tmp_path)


def test_unused_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="'image' is not used"):
        emitted(graph_of(IgnoresFirst(nn.ReLU()), "image", "previous"), tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_a_usage_error(precision: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp32"):
        ONNX.emit(graph_of(Small(nn.ReLU())), precision, tmp_path, "net")


def test_importing_the_format_loads_no_onnx_package() -> None:
    code = (
        "import sys, mobile_matting_export.formats.onnx; "
        "sys.exit(bool({'onnx', 'onnxruntime', 'onnxsim'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
