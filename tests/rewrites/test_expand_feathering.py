from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.expand_feathering import EXPAND_FEATHERING

aten = torch.ops.aten


class Feathering(nn.Module):
    """alpha = a f + b (1 - f) + c; ``form`` is a way to spell it, or to make it something else."""

    def __init__(self, form: str = "slices", window: int = 0, groups: int = 1) -> None:
        super().__init__()
        self.segment = nn.Conv2d(3, 1, 1)
        self.coefficients = nn.Conv2d(3, 3, 3, padding=1, groups=groups)
        self.form = form
        self.window = window

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        f = torch.sigmoid(self.segment(image))
        maps = self.coefficients(image)
        if self.window:
            maps = F.avg_pool2d(maps, self.window, 1, self.window // 2, count_include_pad=False)
        a, b, c = maps.chunk(3, dim=1) if self.form == "chunk" else (maps[:, 0:1], maps[:, 1:2], maps[:, 2:3])
        if self.form == "another order":
            return c + ((1 - f) * a + f * b)
        if self.form == "one channel twice":
            return a * f + b * (1 - f) + b
        if self.form == "two minus f":
            return a * f + b * (2 - f) + c
        if self.form == "weighted sum":
            return torch.add(a * f + b * (1 - f), c, alpha=2)
        alpha = a * f + b * (1 - f) + c
        return alpha * maps if self.form == "read elsewhere" else alpha


@pytest.mark.parametrize("form", ["slices", "chunk", "another order", "one channel twice"])
@pytest.mark.parametrize("window", [0, 5])
def test_feathering_becomes_one_product_and_one_sum(attempt: Any, form: str, window: int) -> None:
    trial = attempt(EXPAND_FEATHERING, Feathering(form, window))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(aten.mul.Tensor), trial.count(aten.add.Tensor), trial.count(aten.rsub.Scalar)) == (1, 1, 0)
    combined = trial.nodes(aten.conv2d.default)[-1]
    assert (combined.meta["shape"][1], module_path(combined)) == (2, "coefficients")
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("form", ["two minus f", "weighted sum"])
def test_other_sum_is_left_alone(attempt: Any, form: str) -> None:
    trial = attempt(EXPAND_FEATHERING, Feathering(form))

    assert (trial.outcome.changes, trial.outcome.refusals, trial.error) == (0, (), 0)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Feathering("read elsewhere"), "conv2d at coefficients is read elsewhere"),
        (Feathering(groups=3), "conv2d at coefficients is grouped"),
    ],
)
def test_shared_or_grouped_convolution_is_refused(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(EXPAND_FEATHERING, network)

    assert (trial.outcome.changes, trial.error) == (0, 0)
    (refusal,) = trial.outcome.refusals
    assert "feathering kept as written, " in refusal and refusal.endswith(reason)


class Product(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        f, g = image[:, :1], image[:, 1:2]
        if self.form == "different":
            return image * torch.cat([f, g, f], dim=1)
        if self.form == "left":
            return torch.cat([f, f, f], dim=1) * image
        return image * torch.cat([f, f, f], dim=1)


@pytest.mark.parametrize(("form", "changes"), [("left", 1), ("right", 1), ("different", 0)])
def test_product_with_a_repeated_map_broadcasts(attempt: Any, form: str, changes: int) -> None:
    trial = attempt(EXPAND_FEATHERING, Product(form))

    assert (trial.outcome.changes, trial.count(aten.cat.default)) == (changes, 1 - changes)
    assert trial.error == 0
