from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.spell_batchnorm_as_depthwise import SPELL_BATCHNORM_AS_DEPTHWISE

aten = torch.ops.aten


def test_norm_of_a_map_becomes_a_depthwise_convolution(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4, eps=1e-3))

    trial = attempt(SPELL_BATCHNORM_AS_DEPTHWISE, network)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.batch_norm.default) == 0
    _, depthwise = trial.nodes(aten.conv2d.default)
    assert module_path(depthwise) == "2"
    assert (depthwise.args[6], depthwise.meta["shape"][1]) == (4, 4)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_norm_without_scale_and_shift_and_on_the_image_is_spelled(attempt: Any) -> None:
    trial = attempt(SPELL_BATCHNORM_AS_DEPTHWISE, nn.BatchNorm2d(3, affine=False), (1, 3, 7, 5))

    assert (trial.outcome.changes, trial.count(aten.conv2d.default)) == (1, 1)
    assert trial.error < 1e-5


def test_every_reader_reads_the_convolution(attempt: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.bn(image) + torch.relu(self.bn(image))

    trial = attempt(SPELL_BATCHNORM_AS_DEPTHWISE, Twice())

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default), trial.count(aten.conv2d.default)) == (2, 0, 2)
    assert trial.error < 1e-5


def test_norm_of_a_vector_is_refused(attempt: Any) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), nn.BatchNorm1d(4))

    trial = attempt(SPELL_BATCHNORM_AS_DEPTHWISE, network)

    assert (trial.outcome.changes, trial.count(aten.batch_norm.default)) == (0, 1)
    assert trial.outcome.refusals == ("batch_norm at 3: kept, it does not normalize a map",)
