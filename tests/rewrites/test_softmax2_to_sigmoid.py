from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.softmax2_to_sigmoid import SOFTMAX2_TO_SIGMOID

aten = torch.ops.aten


class Reading(nn.Module):
    """A head whose two probabilities are read as ``form`` says."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.form = form

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(self.conv(image), dim=1)
        if self.form == "foreground":
            return p[:, 1:2] * 2
        if self.form == "background":
            return p[:, 0:1] * 2
        if self.form == "both slices":
            return p[:, 1:2] - 3 * p[:, 0:1]
        if self.form == "concatenation":
            return torch.cat([image, p, image, p], dim=1)
        if self.form == "chunk":
            background, foreground = p.chunk(2, dim=1)
            return foreground - 3 * background
        return p * 2


@pytest.mark.parametrize("form", ["foreground", "background", "both slices", "concatenation", "chunk", "whole"])
def test_two_classes_become_one_sigmoid(attempt: Any, form: str) -> None:
    trial = attempt(SOFTMAX2_TO_SIGMOID, Reading(form))

    assert (trial.outcome.changes, trial.count(aten.softmax.int), trial.count(aten.sigmoid.default)) == (1, 0, 1)
    (conv,) = trial.nodes(aten.conv2d.default)
    assert conv.meta["shape"] == (1, 1, 37, 45)
    assert trial.count(aten.rsub.Scalar) == (0 if form == "foreground" else 1)
    assert max(trial.error, trial.ring_error) < 1e-6


@pytest.mark.parametrize(
    "resizes",
    [
        [nn.Upsample(scale_factor=2, mode="bilinear")],
        [nn.Upsample(scale_factor=2)],
        [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Upsample(size=(50, 31))],
    ],
)
def test_difference_is_taken_before_resizing(attempt: Any, resizes: list[nn.Module]) -> None:
    trial = attempt(SOFTMAX2_TO_SIGMOID, nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), *resizes, nn.Softmax(dim=1)))

    resized = trial.nodes(aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec)
    assert [node.meta["shape"][1] for node in resized] == [1] * len(resizes)
    assert module_path(trial.nodes(aten.sigmoid.default)[0]) == str(1 + len(resizes))
    assert max(trial.error, trial.ring_error) < 1e-6


class LogitsReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.conv(image)
        return torch.softmax(logits, dim=1)[:, 1:] + logits


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(LogitsReadTwice(), id="logits read twice"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Softmax(dim=1)), id="activation between"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1, groups=2), nn.Softmax(dim=1)), id="grouped"),
        pytest.param(nn.Sequential(nn.ConvTranspose2d(3, 2, 2, 2), nn.Softmax(dim=1)), id="deconv"),
        pytest.param(nn.Sequential(weight_norm(nn.Conv2d(3, 2, 1)), nn.Softmax(dim=1)), id="computed weight"),
    ],
)
def test_difference_that_no_convolution_can_take_is_a_1x1_convolution(attempt: Any, network: nn.Module) -> None:
    trial = attempt(SOFTMAX2_TO_SIGMOID, network)

    assert (trial.outcome.changes, trial.count(aten.softmax.int)) == (1, 0)
    signs = [node for node in trial.nodes(aten.conv2d.default) if "class_difference" in str(node.args[1].target)]
    assert [node.meta["shape"][1] for node in signs] == [1]
    assert trial.error < 1e-6


@pytest.mark.parametrize(
    "layers",
    [[nn.Conv2d(3, 3, 1), nn.Softmax(dim=1)], [nn.Conv2d(3, 2, 1), nn.Softmax(dim=3)]],
    ids=["three classes", "another axis"],
)
def test_other_softmax_is_left_alone(attempt: Any, layers: list[nn.Module]) -> None:
    trial = attempt(SOFTMAX2_TO_SIGMOID, nn.Sequential(*layers))

    assert (trial.outcome.changes, trial.count(aten.softmax.int), trial.error) == (0, 1, 0)
