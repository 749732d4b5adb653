from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.graph.tflite_ops import RESIZE_BILINEAR_LEGACY
from mobile_matting_export.networks.mmnet import LegacyUpsample
from mobile_matting_export.rewrites.spell_legacy_bilinear import SPELL_LEGACY_BILINEAR

aten = torch.ops.aten

BILINEAR = aten.upsample_bilinear2d.vec


class Legacy(nn.Module):
    """A legacy resize by ``factor``, with ``repeat`` to add the last row and column and ``crop`` to cut."""

    def __init__(
        self,
        factor: int = 2,
        repeat: Callable[[torch.Tensor], torch.Tensor] = lambda x: F.pad(x, (0, 1, 0, 1), mode="replicate"),
        crop: Callable[[torch.Tensor, int, int], torch.Tensor] = lambda x, h, w: x[:, :, :h, :w],
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.factor, self.repeat, self.crop, self.align_corners = factor, repeat, crop, align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = (side * self.factor for side in x.shape[2:])
        x = F.interpolate(
            self.repeat(x), size=(height + 1, width + 1), mode="bilinear", align_corners=self.align_corners
        )
        return self.crop(x, height, width)


def columns_first(x: torch.Tensor) -> torch.Tensor:
    x = torch.cat((x, x[..., x.shape[3] - 1 :]), dim=-1)
    return torch.cat((x, x[:, :, -1:]), dim=-2)


@pytest.mark.parametrize(
    ("network", "tolerance"),
    [
        (LegacyUpsample(), 1e-6),
        (Legacy(), 1e-6),
        (Legacy(crop=lambda x, h, w: x[..., :w][:, :, :h]), 1e-6),
        (Legacy(crop=lambda x, h, w: x[:, :, :-1, :-1]), 1e-6),
        # PyTorch takes thirds in float32: it is 1.4e-5 off float64, the one operator 3.4e-7
        (Legacy(3, columns_first), 3e-5),
    ],
    ids=["mmnet", "pad", "columns cut first", "cut from the end", "by 3, columns first"],
)
def test_every_spelling_becomes_one_operator(attempt: Any, network: nn.Module, tolerance: float) -> None:
    trial = attempt(SPELL_LEGACY_BILINEAR, network)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(RESIZE_BILINEAR_LEGACY), trial.count(BILINEAR, aten.cat.default, aten.slice.Tensor)) == (1, 0)
    # of pixels up to 4.2; measured 2.4e-7 where the factor is 2
    assert max(trial.error, trial.ring_error) < tolerance


def test_operator_is_what_tensorflow_documents() -> None:
    row = torch.tensor([[0.0, 4.0, 8.0]]).view(1, 1, 1, 3)

    doubled = RESIZE_BILINEAR_LEGACY(row, 2, 6)

    assert doubled.tolist() == [[[[0, 2, 4, 6, 8, 8]] * 2]]


def test_two_in_a_row_are_one(attempt: Any) -> None:
    trial = attempt(SPELL_LEGACY_BILINEAR, nn.Sequential(LegacyUpsample(), LegacyUpsample()), (1, 3, 11, 13))

    (resize,) = trial.nodes(RESIZE_BILINEAR_LEGACY)
    assert (trial.outcome.changes, resize.args[1:]) == (3, (44, 52))
    assert max(trial.error, trial.ring_error) < 1e-6


def test_two_stay_when_the_map_between_is_read(attempt: Any) -> None:
    class Skip(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            middle = LegacyUpsample()(x)
            return LegacyUpsample()(middle) * middle.mean()

    trial = attempt(SPELL_LEGACY_BILINEAR, Skip(), (1, 3, 11, 13))

    assert trial.count(RESIZE_BILINEAR_LEGACY) == 2


@pytest.mark.parametrize(
    "network",
    [
        Legacy(align_corners=False),
        Legacy(repeat=lambda x: F.pad(x, (1, 0, 1, 0), mode="replicate")),
        Legacy(repeat=lambda x: F.pad(x, (0, 1, 0, 1), mode="reflect")),
        Legacy(repeat=lambda x: F.pad(x, (0, 1, 0, 1))),
        Legacy(repeat=lambda x: torch.cat((x, x[:, :, -1:]), 2)),
        nn.UpsamplingBilinear2d(scale_factor=2),
    ],
    ids=["half pixels", "repeated before", "reflected", "zeros", "rows only", "plain"],
)
def test_other_resizes_stay(attempt: Any, network: nn.Module) -> None:
    trial = attempt(SPELL_LEGACY_BILINEAR, network)

    assert (trial.outcome.changes, trial.count(BILINEAR)) == (0, 1)


@pytest.mark.parametrize(
    "crop",
    [
        lambda x, h, w: x,
        lambda x, h, w: x[:, :, 1:, 1:],
        lambda x, h, w: x[:, :, :h],
        lambda x, h, w: x[..., :h, :w] * x.mean(),
    ],
    ids=["whole", "other end", "rows only", "read before"],
)
def test_other_crops_are_refused(attempt: Any, crop: Any) -> None:
    trial = attempt(SPELL_LEGACY_BILINEAR, Legacy(crop=crop))

    assert (trial.outcome.changes, trial.count(RESIZE_BILINEAR_LEGACY)) == (0, 0)
    assert "stays portable" in trial.outcome.refusals[0]
