from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.rewrites.split_conv_over_concat import SPLIT_CONV_OVER_CONCAT

aten = torch.ops.aten


class Joined(nn.Module):
    """A convolution of several activated maps, or in another form of something else."""

    def __init__(self, widths: tuple[int, ...], last: nn.Module, form: str = "plain") -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(3, width, 3, padding=1) for width in widths)
        self.last = last
        self.form = form

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        parts = [F.relu(conv(image)) for conv in self.first]
        if self.form == "nested":
            parts = [torch.cat(parts[:2], 1), parts[2]]
        if self.form == "twice":
            parts = [parts[0], *parts]
        if self.form == "resized":
            parts[-1] = F.interpolate(F.max_pool2d(parts[-1], 2), size=parts[0].shape[2:], mode="bilinear")
        if self.form == "linear":
            parts[-1] = self.first[-1](image)
        if self.form == "rows":
            return self.last(torch.cat(parts, 2))
        joined = torch.cat(parts, 1)
        if self.form == "read elsewhere":
            return self.last(joined) + joined[:, :4]
        return self.last(joined)


@pytest.mark.parametrize(
    ("network", "parts"),
    [
        pytest.param(Joined((6, 6), nn.Conv2d(12, 4, 1)), 2, id="two"),
        pytest.param(Joined((5, 3, 8), nn.Conv2d(16, 4, 1, bias=False)), 3, id="uneven, without bias"),
        pytest.param(Joined((6, 6), nn.Conv2d(12, 4, 1, stride=2)), 2, id="stride"),
        pytest.param(Joined((4, 4, 4, 4), nn.Conv2d(16, 6, 1)), 4, id="as many added as measured"),
        pytest.param(Joined((4, 4), nn.Conv2d(12, 4, 1), "twice"), 3, id="a part twice"),
    ],
)
def test_convolution_of_a_concatenation_becomes_a_sum(attempt: Any, network: Joined, parts: int) -> None:
    trial = attempt(SPLIT_CONV_OVER_CONCAT, network)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(aten.cat.default), trial.count(aten.add.Tensor)) == (0, parts - 1)
    assert trial.count(aten.conv2d.default) == len(network.first) + parts
    assert sum(b.numel() for b in trial.graph.buffers()) == sum(p.numel() for p in network.parameters())
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Joined((4, 4, 4, 4), nn.Conv2d(16, 7, 1)), "21 numbers a pixel would be added to save copying 16"),
        (Joined((4, 4), nn.Conv2d(8, 4, 1), "read elsewhere"), "it is read 2 times"),
        (Joined((4, 4), nn.Conv2d(8, 4, 1), "resized"), "upsample_bilinear2d at upsample_bilinear2d is a part"),
        (Joined((4, 4), nn.Conv2d(8, 4, 1), "linear"), "conv2d at first.1 is a part"),
        (Joined((4, 4), weight_norm(nn.Conv2d(8, 4, 1))), "a weight or bias is computed"),
    ],
)
def test_concatenation_that_stays_says_why(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(SPLIT_CONV_OVER_CONCAT, network)

    (refusal,) = trial.outcome.refusals
    assert (trial.outcome.changes, trial.count(aten.cat.default), trial.error) == (0, 1, 0)
    assert ": its concatenation stays, " in refusal and reason in refusal


def test_part_that_is_not_needed_is_left_to_dead_channels(attempt: Any) -> None:
    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.cat([torch.ones(2, 3, 1, 1), torch.zeros(2, 3, 1, 1)], 1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return F.conv2d(torch.cat([F.relu(image), torch.tanh(image)], 1), self.weight)

    trial = attempt(SPLIT_CONV_OVER_CONCAT, Ignores())

    (refusal,) = trial.outcome.refusals
    assert "nothing of tanh at tanh is needed" in refusal
    assert trial.outcome.changes == 0


@pytest.mark.parametrize(
    "network",
    [
        Joined((6, 6), nn.Conv2d(12, 4, 3)),
        Joined((6, 6), nn.Conv2d(12, 4, 1, groups=2)),
        Joined((6, 6), nn.Conv2d(12, 4, 1, padding=1)),
        Joined((6, 6), nn.Conv2d(6, 4, 1), "rows"),
    ],
    ids=["3x3", "groups", "padded", "rows"],
)
def test_other_convolutions_are_not_looked_at(attempt: Any, network: nn.Module) -> None:
    trial = attempt(SPLIT_CONV_OVER_CONCAT, network)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(aten.cat.default)) == (0, (), 1)


def test_a_part_that_is_a_concatenation_is_split_in_the_same_run(attempt: Any) -> None:
    network = Joined((6, 6, 12), nn.Conv2d(24, 4, 1), "nested")
    trial = attempt(SPLIT_CONV_OVER_CONCAT, network)

    assert (trial.outcome.changes, trial.count(aten.cat.default)) == (2, 0)
    assert [decision.taken for decision in trial.outcome.decisions] == ["split", "split"]
    assert trial.error < 1e-5
