from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.spell_instance_norm import SPELL_INSTANCE_NORM

aten = torch.ops.aten


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 37, 45), (1, 3, 1, 7), (1, 3, 64, 64)], ids=str)
def test_instance_norm_is_spelled_with_two_means(attempt: Any, affine: bool, shape: tuple[int, ...]) -> None:
    trial = attempt(SPELL_INSTANCE_NORM, nn.Sequential(nn.Sequential(nn.InstanceNorm2d(3, affine=affine))), shape)

    assert (trial.outcome.changes, trial.count(aten.instance_norm.default)) == (1, 0)
    assert [node.args[1] for node in trial.nodes(aten.mean.dim)] == [[2, 3], [2, 3]]
    assert {module_path(node) for node in trial.nodes(aten.mean.dim, aten.mul.Tensor)} == {"0.0"}
    assert max(trial.error, trial.ring_error) < 1e-5


def test_mean_far_from_zero_does_not_cancel(attempt: Any) -> None:
    class Offset(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 0.1 + 100

    trial = attempt(SPELL_INSTANCE_NORM, nn.Sequential(Offset(), nn.InstanceNorm2d(3)))

    # 100 holds 0.1 in steps of 8e-6: 1e-3 of a standard deviation, where E[x^2] - m^2 would lose it all
    assert trial.error < 1e-3


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)), (1, 3, 37, 45)),
        (nn.Sequential(nn.InstanceNorm1d(3)), (1, 3, 37)),
    ],
)
def test_running_statistics_and_lines_are_refused(attempt: Any, network: nn.Module, shape: tuple[int, ...]) -> None:
    trial = attempt(SPELL_INSTANCE_NORM, network, shape)

    assert (trial.outcome.changes, trial.count(aten.instance_norm.default)) == (0, 1)
    assert trial.outcome.refusals == ("instance_norm at 0: kept, it uses running statistics or is not a map",)
