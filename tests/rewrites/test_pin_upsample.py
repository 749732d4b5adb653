from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.rewrites.pin_upsample import PIN_UPSAMPLE

aten = torch.ops.aten

RESIZES = (aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec)


@pytest.mark.parametrize("factor", [2, 3, 4, (2, 3), 2.0])
@pytest.mark.parametrize(
    "options",
    [{"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}],
    ids=["nearest", "bilinear", "corners"],
)
def test_whole_factor_becomes_a_size(attempt: Any, options: dict[str, Any], factor: Any) -> None:
    trial = attempt(PIN_UPSAMPLE, nn.Sequential(nn.Upsample(scale_factor=factor, **options)))

    vertical, horizontal = factor if isinstance(factor, tuple) else (factor, factor)
    (resize,) = trial.nodes(*RESIZES)
    assert (resize.args[1], resize.args[-1]) == ([37 * vertical, 45 * horizontal], None)
    assert (trial.outcome.changes, trial.error, trial.ring_error) == (1, 0, 0)


def test_halving_an_even_size_becomes_a_size(attempt: Any) -> None:
    trial = attempt(PIN_UPSAMPLE, nn.Sequential(nn.Upsample(scale_factor=0.5, mode="bilinear")), (1, 3, 38, 46))

    (resize,) = trial.nodes(*RESIZES)
    assert (resize.args[1], trial.outcome.changes, trial.error) == ([19, 23], 1, 0)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_factor_that_cuts_the_last_pixel_is_refused(attempt: Any, mode: str, factor: float) -> None:
    trial = attempt(PIN_UPSAMPLE, nn.Sequential(nn.Upsample(scale_factor=factor, mode=mode)))

    assert (trial.outcome.changes, trial.count(*RESIZES), trial.error) == (0, 1, 0)
    (refusal,) = trial.outcome.refusals
    assert refusal == f"upsample_{mode}2d at 0: kept, (37, 45) times [{factor}, {factor}] is not whole"


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("arguments", [{"size": (37, 45)}, {"scale_factor": 1}, {"scale_factor": 1.02}], ids=str)
def test_resize_to_the_same_size_is_removed(attempt: Any, mode: str, arguments: dict[str, Any]) -> None:
    trial = attempt(PIN_UPSAMPLE, nn.Sequential(nn.Upsample(**arguments, mode=mode), nn.ReLU()))

    assert (trial.outcome.changes, trial.count(*RESIZES), trial.error) == (1, 0, 0)


def test_resize_to_a_size_is_left_alone(attempt: Any) -> None:
    trial = attempt(PIN_UPSAMPLE, nn.Sequential(nn.Upsample(size=(50, 31), mode="bilinear")))

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(*RESIZES)) == (0, (), 1)
