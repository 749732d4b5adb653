from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.rewrites.spell_clamp import SPELL_CLAMP

aten = torch.ops.aten
CLAMPS = (aten.clamp.default, aten.hardtanh.default)


class Clamp(nn.Module):
    def __init__(self, low: float | None, high: float | None, scale: float = 1.0) -> None:
        super().__init__()
        self.bounds, self.scale = (low, high), scale
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.conv(x) * self.scale).clamp(*self.bounds)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_a_clamp_to_the_unit_interval_is_spelled_bit_for_bit(attempt: Any, scale: float) -> None:
    trial = attempt(SPELL_CLAMP, Clamp(0, 1, scale))

    assert (trial.outcome.changes, trial.count(*CLAMPS), trial.count(aten.relu.default)) == (1, 0, 2)
    assert (trial.error, trial.ring_error) == (0, 0)


def test_hardtanh_to_the_unit_interval_is_spelled(attempt: Any) -> None:
    trial = attempt(SPELL_CLAMP, nn.Sequential(nn.Conv2d(3, 2, 1), nn.Hardtanh(0.0, 1.0)))

    assert (trial.outcome.changes, trial.count(*CLAMPS), trial.error) == (1, 0, 0)


@pytest.mark.parametrize("bounds", [(0, 6), (-1, 1), (0, None), (None, 1), (0, 0.5)])
def test_other_bounds_stay(attempt: Any, bounds: tuple[float | None, float | None]) -> None:
    assert attempt(SPELL_CLAMP, Clamp(*bounds)).outcome.changes == 0


def test_it_is_exact_as_far_as_it_says() -> None:
    x = torch.cat((torch.linspace(-3, 3, 100_001), torch.tensor([2.0**24 - 1, 1e-40, -0.0, 0.0, 1.0])))
    assert torch.equal(torch.relu(x) - torch.relu(x - 1), x.clamp(0, 1))
    half = x[:-5].half()
    assert torch.equal(torch.relu(half) - torch.relu(half - 1), half.clamp(0, 1))
