"""Graph to TFLite file: numbers, names, layout, reproducibility, errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.read_file import read_file

pytestmark = pytest.mark.toolchain


class Applied(nn.Module):
    """A convolution and something done to its result."""

    def __init__(self, then: Callable[[torch.Tensor], torch.Tensor], channels: int = 1) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, channels, 3, 1, 1)
        self.then = then

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.then(self.layer(image))


class Squeeze(nn.Module):
    """The squeeze-and-excitation of MODNet, with the expand_as that litert-torch refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 1).view(1, 4)
        scale = torch.sigmoid(self.linear(pooled)).view(1, 4, 1, 1)
        return x * scale.expand_as(x)


def emitted(graph: ExportGraph, folder: Path) -> tuple[Path, np.ndarray]:
    """The fp32 file and its alpha on the example inputs."""
    files = TFLITE.emit(graph, "fp32", folder, "net")
    session = TFLITE.open(files, "cpu")
    return files[0], session.run({name: image.numpy() for name, image in graph.inputs.items()})["alpha"]


def expected(graph: ExportGraph) -> np.ndarray:
    with torch.no_grad():
        return graph.module(*graph.inputs.values()).numpy()


def test_one_input_agrees_with_torch(small_graph: ExportGraph, tmp_path: Path) -> None:
    _, alpha = emitted(small_graph, tmp_path)
    assert np.abs(alpha - expected(small_graph)).max() < 1e-5


def test_two_inputs_agree_with_torch_without_transpose(video_graph: ExportGraph, tmp_path: Path) -> None:
    path, alpha = emitted(video_graph, tmp_path)
    assert np.abs(alpha - expected(video_graph)).max() < 1e-5
    assert not {"TRANSPOSE", "RESHAPE"} & set(TFLITE.count_ops((path,)))


def test_file_is_named_by_stem_and_has_the_contracted_interface(video_graph: ExportGraph, tmp_path: Path) -> None:
    path, _ = emitted(video_graph, tmp_path)
    assert path == tmp_path / "net.tflite"
    file = read_file(path)
    (signature,) = file.signatures
    assert signature.key == "matte"
    shapes = {name: file.main.tensors[index].shape for name, index in signature.inputs.items()}
    assert shapes == {"image": (1, 32, 24, 3), "previous_alpha": (1, 32, 24, 1)}
    assert {name: file.main.tensors[index].shape for name, index in signature.outputs.items()} == {
        "alpha": (1, 32, 24, 1)
    }


def test_tensor_names_carry_the_module_path(small_file: Path) -> None:
    main = read_file(small_file).main
    convolutions = [main.tensors[op.outputs[0]].name for op in main.operators if op.kind == "CONV_2D"]
    assert convolutions == ["encoder.conv@2", "decoder.conv@1", "head@1"]  # the first is padded by a PAD of its own


def test_same_bytes_twice_and_in_processes_with_other_hash_seeds(small_graph: ExportGraph, tmp_path: Path) -> None:
    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from mobile_matting_export.formats.format import ExportGraph\n"
        "from mobile_matting_export.formats.tflite import TFLITE\n"
        "from torch import fx, nn\n"
        "torch.manual_seed(0)\n"
        "root = nn.Module()\n"
        "root.weight = nn.Parameter(torch.rand(1, 3, 3, 3))\n"
        "graph = fx.Graph()\n"
        "image, weight = graph.placeholder('image'), graph.get_attr('weight')\n"
        "conv = graph.call_function(torch.ops.aten.conv2d.default, (image, weight, None, [1, 1], [1, 1]))\n"
        "graph.output(graph.call_function(torch.ops.aten.sigmoid.default, (conv,)))\n"
        "example = {'image': torch.rand(1, 3, 16, 16)}\n"
        "TFLITE.emit(ExportGraph(fx.GraphModule(root, graph), example), 'fp32', Path(sys.argv[1]), sys.argv[2])\n"
    )
    root = Path(__file__).resolve().parents[2]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        ran = subprocess.run(
            [sys.executable, str(script), str(tmp_path), f"seed{seed}"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ran.stdout == ""
    assert digest(tmp_path / "seed1.tflite") == digest(tmp_path / "seed2.tflite")
    first = TFLITE.emit(small_graph, "fp32", tmp_path, "first")[0]
    second = TFLITE.emit(small_graph, "fp32", tmp_path, "second")[0]
    assert digest(first) == digest(second)


@pytest.mark.parametrize(
    "then",
    [
        lambda x: 1 - x,
        lambda x: 1 - torch.relu(x),
        lambda x: torch.rsub(x, 2.0, alpha=3),
        lambda x: torch.ones(1, 1, 1, 1) - x,
        lambda x: 1 - nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear"),
        lambda x: 2 / (torch.relu(x) + 1),
        lambda x: torch.reciprocal(torch.relu(x) + 1),
        lambda x: torch.full((1, 1, 1, 1), 2.0) / (torch.relu(x) + 1),
    ],
    ids=["1-conv", "1-relu", "rsub-alpha", "tensor-conv", "1-resize", "2/sum", "reciprocal", "tensor/sum"],
)
def test_constant_first_operand_keeps_its_side(
    then: Callable[[torch.Tensor], torch.Tensor],
    tflite_graph: Callable[..., ExportGraph],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    graph = tflite_graph(Applied(then), image=torch.rand(1, 3, 16, 16))
    _, alpha = emitted(graph, tmp_path)
    assert np.abs(alpha.ravel() - expected(graph).ravel()).max() < 1e-5  # one channel: no layout to differ


def test_conversion_prints_nothing(small_graph: ExportGraph, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TFLITE.emit(small_graph, "fp16", tmp_path, "quiet")
    assert capfd.readouterr() == ("", "")


def test_missing_lowering_names_operator_layer_and_remedy(
    tflite_graph: Callable[..., ExportGraph], tmp_path: Path
) -> None:
    class Bessel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    net = nn.Sequential(nn.Conv2d(3, 1, 3, 1, 1), Bessel())
    with pytest.raises(ConversionError, match=r"aten\.special_bessel_j0.*pooling") as e:
        TFLITE.emit(tflite_graph(net, image=torch.rand(1, 3, 16, 16)), "fp32", tmp_path, "net")
    layer, code = (
        "at layer 1 (test_tflite_lower.py, line ",
        ": `return torch.special.bessel_j0(x)`): Lowering not found",
    )
    assert layer in str(e.value) and code in str(e.value)
    assert "LiteRT-Torch Convert" in e.value.__notes__[0]
    assert list(tmp_path.iterdir()) == []


def test_expand_is_explained_with_its_layer(tflite_graph: Callable[..., ExportGraph], tmp_path: Path) -> None:
    graph = tflite_graph(
        nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), Squeeze(), nn.Conv2d(4, 1, 1)), image=torch.rand(1, 3, 16, 16)
    )
    with pytest.raises(ConversionError, match=r"at layer 1 \(.+\.py, line \d+: `.+`\): 'tfl.mul' op .*drop expand"):
        TFLITE.emit(graph, "fp32", tmp_path, "net")


def test_unknown_precision_is_refused(small_graph: ExportGraph, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="fp32 or fp16, not as int4"):
        TFLITE.emit(small_graph, "int4", tmp_path, "net")
