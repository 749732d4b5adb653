from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.rewrites.softmax2_to_sigmoid import SOFTMAX2_TO_SIGMOID
from mobile_matting_export.rewrites.spell_channel_max import SPELL_CHANNEL_MAX

aten = torch.ops.aten

THREE = (1, 3, 7, 5)


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.max(1)[0].unsqueeze(1) * 2,
        lambda x: x.max(-3, keepdim=True).values * 2,
        lambda x: x.amax(1).unsqueeze(-3) * 2,
        lambda x: x.amax((1,), keepdim=True) * 2,
        lambda x: x * (1 - x.max(1)[0].unsqueeze(1)).expand(1, 3, 7, 5),
    ],
    ids=["max", "max kept", "amax", "amax kept", "gate"],
)
def test_maximum_over_channels_keeps_its_axis(attempt: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    trial = attempt(SPELL_CHANNEL_MAX, Function(function), THREE)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.max.dim, aten.amax.default, aten.unsqueeze.default) == 0
    assert (trial.count(aten.maximum.default), trial.count(aten.slice.Tensor), trial.error) == (2, 3, 0)


def test_confidence_of_two_classes_needs_no_slices(attempt: Any) -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Conv2d(3, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            confidence = torch.max(nn.Softmax2d()(self.scores(image)), dim=1)[0]
            return image * (1 - confidence).unsqueeze(1) + image * confidence.unsqueeze(1)

    trial = attempt(SPELL_CHANNEL_MAX, Gate(), after=[SOFTMAX2_TO_SIGMOID])

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.max.dim, aten.unsqueeze.default, aten.slice.Tensor) == 0
    assert trial.error < 1e-6


@pytest.mark.parametrize(
    ("function", "shape", "reason"),
    [
        (lambda x: x.max(1)[0].unsqueeze(1), (1, 5, 7, 5), "it is over 5 channels"),
        (lambda x: x.max(1)[0].unsqueeze(1) + x.max(1)[1].unsqueeze(1), THREE, None),
        (lambda x: x * x.max(1)[1].unsqueeze(1), THREE, "its indices are read"),
        (lambda x: x * x.max(1)[0], THREE, "mul at mul reads it without a channel axis"),
        (lambda x: x.max(1)[0], THREE, "the output reads it without a channel axis"),
    ],
)
def test_other_maxima_are_kept(
    attempt: Any, function: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...], reason: str | None
) -> None:
    trial = attempt(SPELL_CHANNEL_MAX, Function(function), shape)

    if reason is None:  # one of the two calls reads no indices
        assert trial.outcome.changes == 1
    else:
        assert trial.outcome.changes == 0
        assert reason in trial.outcome.refusals[0]
    assert trial.error == 0


def test_maximum_over_pixels_is_no_matter_of_this_rewrite(attempt: Any) -> None:
    trial = attempt(SPELL_CHANNEL_MAX, Function(lambda x: x.max(2)[0].unsqueeze(2) * x), THREE)

    assert (trial.outcome.changes, trial.outcome.refusals) == (0, ())
