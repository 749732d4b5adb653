"""A graph is ready to be lowered only with examples that fit it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.graph.capture import capture

IMAGE = torch.rand(1, 3, 8, 8)


class Difference(nn.Module):
    def forward(self, image: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return image - previous


def captured(*names: str) -> fx.GraphModule:
    return capture(Difference(), dict.fromkeys(names, IMAGE))


def test_examples_by_the_names_of_the_inputs_are_taken() -> None:
    # "input" is a builtin's name, which fx avoids in the code that it generates
    for names in (("image", "previous"), ("input", "previous")):
        graph = ExportGraph(captured(*names), dict.fromkeys(names, IMAGE))
        assert tuple(graph.inputs) == names


@pytest.mark.parametrize(
    "names", [(), ("image",), ("previous", "image"), ("image", "before"), ("image", "previous", "x")]
)
def test_examples_must_be_those_of_the_inputs_in_order(names: tuple[str, ...]) -> None:
    with pytest.raises(ConversionError, match=f"takes the inputs image, previous, .*for {', '.join(names) or 'none'};"):
        ExportGraph(captured("image", "previous"), dict.fromkeys(names, IMAGE))


@pytest.mark.parametrize(
    "example",
    [torch.rand(2, 3, 8, 8), torch.rand(3, 8, 8), IMAGE.half(), IMAGE.double(), IMAGE.byte()],
)
def test_examples_must_be_one_float_frame(example: torch.Tensor) -> None:
    with pytest.raises(ConversionError, match=r"input 'previous' is torch\.\w+ of shape .*1xCxHxW"):
        ExportGraph(captured("image", "previous"), {"image": IMAGE, "previous": example})


def test_an_input_cannot_have_the_name_of_the_output() -> None:
    with pytest.raises(ConversionError, match="output's name"):
        ExportGraph(captured("image", "alpha"), {"image": IMAGE, "alpha": IMAGE})


@pytest.mark.parametrize("module", ["format", "tflite", "ncnn", "onnx", "tflite.run", "ncnn.worker", "onnx.run"])
def test_running_a_file_needs_no_torch(module: str) -> None:
    code = f"import sys, mobile_matting_export.formats.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
