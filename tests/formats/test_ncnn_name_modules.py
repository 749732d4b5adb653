"""Module paths of a file's layers, found by their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.ncnn.name_modules import name_modules
from mobile_matting_export.graph.capture import capture

pytestmark = pytest.mark.toolchain


class Twins(nn.Module):
    """Two convolutions with the same weights, and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 3, 3, padding=1)
        self.right = nn.Conv2d(3, 3, 3, padding=1)
        self.right.load_state_dict(self.left.state_dict())
        self.last = nn.Conv2d(3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.right(torch.relu(self.left(image)))))


def test_every_layer_is_named_by_its_module(gated_files: tuple[Path, ...], gated_graph: ExportGraph) -> None:
    assert name_modules(gated_files, gated_graph.module) == {
        "convrelu_0": "first",
        "convdwrelu_0": "depth",
        "conv_7": "wide",
        "fcsigmoid_0": "gate",
        "convsigmoid_1": "head",
    }


@pytest.fixture(scope="module")
def twins() -> ExportGraph:
    torch.manual_seed(1)
    example = {"image": torch.rand(1, 3, 16, 16)}
    return ExportGraph(capture(Twins().eval(), example), example)


def test_equal_weights_are_told_apart_by_their_order(twins: ExportGraph, tmp_path: Path) -> None:
    found = name_modules(NCNN.emit(twins, "fp32", tmp_path, "twins"), twins.module)
    assert list(found.values()) == ["left", "right", "last"]


def test_weights_of_another_network_are_not_named(gated_files: tuple[Path, ...], twins: ExportGraph) -> None:
    assert name_modules(gated_files, twins.module) == {}
