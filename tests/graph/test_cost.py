from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.cost import count_macs, count_module_cost, count_parameters

SHAPE = (1, 4, 36, 44)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(4, 8, 3, padding=1), 36 * 44 * 8 * 4 * 9),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), 18 * 22 * 8 * 2 * 9),
        (nn.Conv2d(4, 4, 5, padding=2, groups=4), 36 * 44 * 4 * 25),
        (nn.ConvTranspose2d(4, 8, 4, 2, 1), 36 * 44 * 4 * 8 * 16),
        (nn.Linear(44, 10), 4 * 36 * 44 * 10),
        (nn.ReLU(), 0),
    ],
    ids=str,
)
def test_macs_are_those_of_the_formula(layer: nn.Module, macs: int) -> None:
    graph = capture(nn.Sequential(layer), {"image": torch.rand(SHAPE)})

    assert count_macs(graph) == macs
    assert count_module_cost(lambda: nn.Sequential(layer).to("meta"), SHAPE)[1] == macs


def test_macs_of_a_convolution_with_a_computed_weight_count() -> None:
    graph = capture(nn.Sequential(weight_norm(nn.Conv2d(4, 8, 1))), {"image": torch.rand(SHAPE)})

    assert count_macs(graph) == 36 * 44 * 8 * 4


def test_parameters_count_statistics_in_a_graph_but_not_in_a_module() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))

    graph = capture(build(), {"image": torch.rand(SHAPE)})

    assert count_parameters(graph) == 4 * 8 * 9 + 8 + 4 * 8
    assert count_module_cost(build, SHAPE)[0] == 4 * 8 * 9 + 8 + 2 * 8


def test_parameters_under_two_names_count_once() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1)

    graph = capture(nn.Sequential(shared, nn.ReLU(), shared), {"image": torch.rand(SHAPE)})

    assert count_parameters(graph) == 4 * 4 * 9 + 4
    assert count_macs(graph) == 2 * 36 * 44 * 4 * 4 * 9
