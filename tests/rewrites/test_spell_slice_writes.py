from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS
from mobile_matting_export.rewrites.spell_slice_writes import SPELL_SLICE_WRITES

aten = torch.ops.aten


class Writing(nn.Module):
    """Convolution whose result is written into by ``write``."""

    def __init__(self, write: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.write = write

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv(image)
        self.write(x)
        return x * 1


def scale_first(x: torch.Tensor) -> None:
    x[:, :2] *= 0.5


def scale_middle(x: torch.Tensor) -> None:
    x[:, 1:4] *= 0.5


def scale_last(x: torch.Tensor) -> None:
    x[:, -2:] *= 0.5


def copy_left_half(x: torch.Tensor) -> None:
    x[:, :, :, :20] = x[:, :, :, 20:40]


def copy_rectangle(x: torch.Tensor) -> None:
    x[:, 2:4, 5:9, -7:] = x[:, 0:2, 0:4, :7]


@pytest.mark.parametrize(
    ("write", "concatenations"),
    [(scale_first, 1), (scale_middle, 1), (scale_last, 1), (copy_left_half, 1), (copy_rectangle, 3)],
)
def test_write_becomes_a_concatenation(
    attempt: Any, write: Callable[[torch.Tensor], None], concatenations: int
) -> None:
    trial = attempt(SPELL_SLICE_WRITES, Writing(write), after=[REMOVE_NO_OPS])

    assert trial.outcome.changes > 0 and trial.outcome.refusals == ()
    assert trial.count(aten.slice_scatter.default) == 0
    assert trial.count(aten.cat.default) == concatenations
    assert trial.error == trial.ring_error == 0


def test_write_to_every_second_channel_is_refused(attempt: Any) -> None:
    def scale_even(x: torch.Tensor) -> None:
        x[:, ::2] *= 0.5

    trial = attempt(SPELL_SLICE_WRITES, nn.Sequential(Writing(scale_even)), after=[REMOVE_NO_OPS])

    assert trial.count(aten.slice_scatter.default) >= 1
    assert set(trial.outcome.refusals) == {"slice_scatter at 0: kept, it writes every 2th channel"}
