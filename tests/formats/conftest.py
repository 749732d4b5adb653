"""Small networks, their graphs and files for the tests of the formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.graph.capture import capture


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


class SmallMatting(nn.Module):
    """Encoder, decoder and a skip, 3 or (with a previous alpha) 4 channels in."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.encoder = Block(channels, 16, 2)
        self.decoder = Block(16, 16, 1)  # the only one with more than SMALL_WEIGHT weights
        self.head = nn.Conv2d(16 + channels, 1, 1)

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        image = torch.cat(images, 1) if len(images) > 1 else images[0]
        x = self.decoder(self.encoder(image))
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.head(torch.cat((x, image), 1)))


class Gated(nn.Module):
    """Every kind of layer that ncnn computes in int8, in a chain and apart, and two that it should not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.wide = nn.Conv2d(16, 72, 1)  # more than SMALL_WEIGHT weights
        self.gate = nn.Linear(72, 72)
        self.scale = nn.Conv2d(72, 72, 1, groups=72)
        self.up = nn.ConvTranspose2d(72, 4, 2, stride=2)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(image))
        x = self.wide(torch.relu(self.depth(x)))
        x = self.scale(x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None])
        x = nn.functional.avg_pool2d(torch.relu(x), 2)
        return torch.sigmoid(self.head(self.up(x)))


def graph_of(module: nn.Module, **inputs: torch.Tensor) -> ExportGraph:
    """The ATen graph of ``module``."""
    return ExportGraph(capture(module.eval(), inputs), inputs)


@pytest.fixture(scope="session")
def tflite_graph() -> Callable[..., ExportGraph]:
    """Module and named NCHW examples -> ExportGraph."""
    return graph_of


@pytest.fixture(scope="session")
def small_graph() -> ExportGraph:
    """A small network with one image."""
    torch.manual_seed(0)
    return graph_of(SmallMatting(), image=torch.rand(1, 3, 32, 24))


@pytest.fixture(scope="session")
def video_graph() -> ExportGraph:
    """A small network with an image and the previous alpha."""
    torch.manual_seed(0)
    images = {"image": torch.rand(1, 3, 32, 24), "previous_alpha": torch.rand(1, 1, 32, 24)}
    return graph_of(SmallMatting(4), **images)


@pytest.fixture(scope="session")
def small_file(small_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as fp32 TFLite file; tests must not change it."""
    from mobile_matting_export.formats.tflite import TFLITE

    (path,) = TFLITE.emit(small_graph, "fp32", tmp_path_factory.mktemp("small"), "small")
    return path


@pytest.fixture(scope="session")
def gated_graph() -> ExportGraph:
    """A small network with layers of every kind that ncnn computes in int8."""
    torch.manual_seed(0)
    return graph_of(Gated(), image=torch.rand(1, 3, 32, 24))


@pytest.fixture(scope="session")
def gated_files(gated_graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """``gated_graph`` as fp32 ncnn files; tests must not change them."""
    from mobile_matting_export.formats.ncnn import NCNN

    return NCNN.emit(gated_graph, "fp32", tmp_path_factory.mktemp("gated"), "gated")


@pytest.fixture(scope="session")
def gated_frames() -> list[dict[str, np.ndarray]]:
    """Frames for ``gated_files``."""
    random = np.random.default_rng(0)
    return [{"image": random.uniform(-1, 1, (1, 3, 32, 24)).astype(np.float32)} for _ in range(3)]
