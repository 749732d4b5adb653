"""TFLite's own operators: read back from files, and run with the same result as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.read_file import Operator, TfliteFile, read_file
from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE, RESIZE_BILINEAR_LEGACY, SPREAD_COLUMNS

pytestmark = pytest.mark.toolchain


class Net(nn.Module):
    """Every operator once, odd sizes and borders in view, between convolutions that XNNPACK takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 1, 1)
        self.sloped = nn.PReLU(8)
        self.second = nn.Conv2d(8, 8, 3, 1, 1)
        self.shared = nn.PReLU()
        self.last = nn.Conv2d(2, 6, 3, 1, 1)
        nn.init.uniform_(self.sloped.weight, -0.5, 1.5)
        for conv in (self.first, self.second, self.last):
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.shared(self.second(self.sloped(self.first(image))))
        x = DEPTH_TO_SPACE(RESIZE_BILINEAR_LEGACY(x, 2 * x.shape[2], 3 * x.shape[3]), 2)
        x = SPREAD_COLUMNS(self.last(CROP(x, 1, 2, image.shape[2], image.shape[3])), 2)
        return torch.sigmoid(x[:, :1] * x[:, 1:] + x[:, 1:])  # a fork, where a change of layout could stay


@pytest.fixture(scope="module")
def graph(tflite_graph: Callable[..., ExportGraph]) -> ExportGraph:
    torch.manual_seed(0)
    return tflite_graph(Net(), image=torch.randn(1, 3, 15, 11))


@pytest.fixture(scope="module")
def path(graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TFLITE.emit(graph, "fp32", tmp_path_factory.mktemp("native"), "net")[0]


@pytest.fixture(scope="module")
def file(path: Path) -> TfliteFile:
    return read_file(path)


def only(file: TfliteFile, kind: str) -> Operator:
    (operator,) = [each for each in file.main.operators if each.kind == kind]
    return operator


def test_each_is_one_operator_and_nothing_is_transposed(path: Path) -> None:
    counts = TFLITE.count_ops((path,))

    single = ("RESIZE_BILINEAR", "DEPTH_TO_SPACE", "RESHAPE", "LOGISTIC", "MUL", "ADD")
    assert counts == dict.fromkeys(single, 1) | {"CONV_2D": 3, "PRELU": 2, "SLICE": 3}


def test_file_computes_what_the_graph_does(graph: ExportGraph, path: Path) -> None:
    image = graph.inputs["image"]
    alpha = TFLITE.open((path,), "cpu").run({"image": image.numpy()})["alpha"]

    with torch.no_grad():
        expected = graph.module(image).numpy()
    assert expected.std() > 0.05
    assert np.abs(alpha.ravel() - expected.ravel()).max() < 1e-6  # one channel: no layout to differ


def test_legacy_resize_has_neither_flag(file: TfliteFile) -> None:
    resize = only(file, "RESIZE_BILINEAR")

    assert dict(resize.options) == {"alignCorners": False, "halfPixelCenters": False}
    assert resize.version == 1


def test_depth_to_space_knows_its_block(file: TfliteFile) -> None:
    assert dict(only(file, "DEPTH_TO_SPACE").options) == {"blockSize": 2}


def test_slopes_are_stored_one_for_each_channel(file: TfliteFile) -> None:
    slopes = [file.main.tensors[each.inputs[1]] for each in file.main.operators if each.kind == "PRELU"]

    assert [(each.constant, each.shape) for each in slopes] == [(True, (1, 1, 8))] * 2


def test_same_bytes_twice(graph: ExportGraph, path: Path, tmp_path: Path) -> None:
    again = TFLITE.emit(graph, "fp32", tmp_path, "again")[0]

    assert again.read_bytes() == path.read_bytes()


def test_prelu_of_a_vector_is_left_to_the_converter(tflite_graph: Callable[..., ExportGraph], tmp_path: Path) -> None:
    class Vector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.PReLU(3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            scale = self.act(image.mean((2, 3)) - 0.5)
            return torch.sigmoid((image * scale.view(1, 3, 1, 1)).mean(1, keepdim=True))

    torch.manual_seed(0)
    small = tflite_graph(Vector(), image=torch.rand(1, 3, 16, 16))
    files = TFLITE.emit(small, "fp32", tmp_path, "net")

    assert "PRELU" not in TFLITE.count_ops(files)
    alpha = TFLITE.open(files, "cpu").run({"image": small.inputs["image"].numpy()})["alpha"]
    assert np.abs(alpha - small.module(small.inputs["image"]).numpy()).max() < 1e-6
