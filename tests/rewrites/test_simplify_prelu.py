from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.rewrites.simplify_prelu import SIMPLIFY_PRELU

aten = torch.ops.aten


class Sloped(nn.Module):
    """A PReLU with slopes that no random initialisation of the tests overwrites."""

    def __init__(self, slopes: list[float]) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.prelu(x, self.slopes)


@pytest.mark.parametrize("slopes", [[0.0], [0.0] * 3], ids=["shared", "per channel"])
def test_zero_slopes_are_a_relu(attempt: Any, slopes: list[float]) -> None:
    trial = attempt(SIMPLIFY_PRELU, Sloped(slopes))

    assert trial.outcome.changes == 1
    assert (trial.count(aten.prelu.default), trial.count(aten.relu.default)) == (0, 1)
    assert trial.error == 0


@pytest.mark.parametrize("slopes", [[1.0], [1.0] * 3], ids=["shared", "per channel"])
def test_slopes_of_one_are_nothing(attempt: Any, slopes: list[float]) -> None:
    trial = attempt(SIMPLIFY_PRELU, nn.Sequential(nn.Conv2d(3, 3, 1), Sloped(slopes)))

    assert (trial.outcome.changes, trial.count(aten.prelu.default)) == (1, 0)
    assert trial.error == 0


@pytest.mark.parametrize("slopes", [[0.25], [0.0, 0.0, 0.5], [0.0, 1.0, 1.0], [1.5], [-0.1]], ids=str)
def test_other_slopes_stay(attempt: Any, slopes: list[float]) -> None:
    trial = attempt(SIMPLIFY_PRELU, Sloped(slopes))

    assert (trial.outcome.changes, trial.count(aten.prelu.default)) == (0, 1)


def test_computed_slopes_stay(attempt: Any) -> None:
    class Computed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.prelu(x, x.mean((0, 2, 3)) * 0)

    trial = attempt(SIMPLIFY_PRELU, Computed())

    assert (trial.outcome.changes, trial.count(aten.prelu.default)) == (0, 1)
