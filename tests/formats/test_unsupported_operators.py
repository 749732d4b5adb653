"""A stranger's operator that a format lacks is named with its layer and its line of code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph, Format
from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.onnx import ONNX
from mobile_matting_export.graph.capture import capture

pytestmark = pytest.mark.toolchain


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erfinv(torch.tanh(x))


class Choosing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x > 0)


class Skipping(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halves = x[:, 1:]
        return F.interpolate(torch.cat([x[:, :1], halves], 1)[:, :, ::2, ::2], scale_factor=2)


class Folding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).view(1, 2, 2, 4, 4, 8)
        return blocks.permute(0, 2, 1, 4, 3, 5).reshape(1, 4, 16, 8)


class Stranger(nn.Module):
    def __init__(self, *odd: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.stages = nn.Sequential(*odd)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.last(self.stages(self.first(image))))


def _refusal(form: Format, network: nn.Module, folder: Path) -> str:
    inputs = {"image": torch.rand(1, 3, 16, 8)}
    graph = ExportGraph(capture(network.eval(), inputs), inputs)
    with pytest.raises(ConversionError) as caught:
        form.emit(graph, "fp32", folder, "net")
    assert not list(folder.iterdir())
    return str(caught.value)


@pytest.mark.parametrize("form", [NCNN, ONNX], ids=lambda form: form.name)
def test_both_name_layer_and_line(form: Format, tmp_path: Path) -> None:
    says = _refusal(form, Stranger(nn.ReLU(), Odd()), tmp_path)
    assert "aten::erfinv" in says and "at layer stages.1 (test_unsupported_operators.py, line " in says
    assert "`return torch.erfinv(torch.tanh(x))`" in says


def test_several_layers_of_the_same_operator_are_counted(tmp_path: Path) -> None:
    says = _refusal(NCNN, Stranger(Choosing(), nn.ReLU(), Choosing()), tmp_path)
    assert "torch.gt at layer stages.0 (and 1 layer more of the same code)" in says
    assert says.endswith("write the comparison with relu, clamp or a multiplication")


@pytest.mark.parametrize(
    ("odd", "complaint", "line"),
    [
        (Skipping, "'slice with step 2 is not supported'", "[:, :, ::2, ::2], scale_factor=2)`"),
        (Folding, "'permute 5-rank tensor is not supported yet!'", "`return blocks.permute("),
    ],
)
def test_what_pnnx_only_remarks_is_placed_among_its_like(
    odd: Callable[[], nn.Module], complaint: str, line: str, tmp_path: Path
) -> None:
    says = _refusal(NCNN, Stranger(odd()), tmp_path)
    assert complaint in says and line in says and " at layer stages.0 (test_unsup" in says
