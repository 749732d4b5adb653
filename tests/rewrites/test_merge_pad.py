from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.rewrites.merge_pad import MERGE_PAD

aten = torch.ops.aten

PADS = (aten.pad.default, aten.constant_pad_nd.default)


class Pad(nn.Module):
    def __init__(self, sides: Sequence[int], mode: str = "constant", value: float | None = None) -> None:
        super().__init__()
        self.sides, self.mode, self.value = list(sides), mode, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.sides, self.mode, self.value)


@pytest.mark.parametrize(
    ("sides", "padding"),
    [((2, 2, 1, 1), (1, 2)), ((3, 3), (0, 3)), ((0, 0, 1, 1), (1, 0)), ((1, 1, 1, 1, 0, 0), (1, 1))],
    ids=str,
)
@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"padding": (1, 2)}, {"dilation": 2, "groups": 3}], ids=str)
def test_zeros_on_both_sides_become_padding(
    attempt: Any, sides: tuple[int, ...], padding: tuple[int, int], settings: dict[str, Any]
) -> None:
    trial = attempt(MERGE_PAD, nn.Sequential(Pad(sides), nn.Conv2d(3, 6, 3, **settings)))

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(*PADS)) == (1, (), 0)
    (conv,) = trial.nodes(aten.conv2d.default)
    own = settings.get("padding", (0, 0))
    assert conv.args[4] == [own[0] + padding[0], own[1] + padding[1]]
    assert max(trial.error, trial.ring_error) < 2e-6


@pytest.mark.parametrize("pad", [nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.0), Pad((1, 1, 1, 1), value=0.0)], ids=str)
def test_every_spelling_of_zeros_is_found(attempt: Any, pad: nn.Module) -> None:
    trial = attempt(MERGE_PAD, nn.Sequential(pad, nn.Conv2d(3, 6, 3)))

    assert (trial.outcome.changes, trial.count(*PADS)) == (1, 0)
    assert max(trial.error, trial.ring_error) < 2e-6


def test_pads_in_a_row_add_up(attempt: Any) -> None:
    trial = attempt(MERGE_PAD, nn.Sequential(Pad((1, 1, 2, 2)), nn.ZeroPad2d(1), nn.Conv2d(3, 6, 3, padding=1)))

    assert (trial.outcome.changes, trial.count(*PADS)) == (2, 0)
    assert trial.nodes(aten.conv2d.default)[0].args[4] == [4, 3]
    assert max(trial.error, trial.ring_error) < 2e-6


class Readers(nn.Module):
    """A padded picture read by two convolutions and, perhaps, by something that is none."""

    def __init__(self, third: str) -> None:
        super().__init__()
        self.pad = Pad((2, 2, 2, 2))
        self.small, self.large = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, 3)
        self.pool = nn.MaxPool2d(2)
        self.third = third

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pad(x)
        result = self.small(x) * self.large(x).mean()
        return result * self.pool(x).mean() if self.third == "pool" else result


def test_all_convolutions_behind_take_the_pad(attempt: Any) -> None:
    trial = attempt(MERGE_PAD, Readers("none"))

    assert (trial.outcome.changes, trial.count(*PADS)) == (1, 0)
    assert [node.args[4] for node in trial.nodes(aten.conv2d.default)] == [[3, 3], [2, 2]]
    assert max(trial.error, trial.ring_error) < 2e-6


def test_reader_that_is_no_convolution_keeps_the_pad_for_all(attempt: Any) -> None:
    trial = attempt(MERGE_PAD, Readers("pool"))

    assert (trial.outcome.changes, trial.count(*PADS), trial.error) == (0, 1, 0)
    assert trial.outcome.refusals == ("pad at pad: kept, max_pool2d at pool reads it",)


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        ((0, 1, 0, 1), "its sides differ (left 0, right 1, top 0, bottom 1)"),
        ((1, 1, 0, 2), "its sides differ (left 1, right 1, top 0, bottom 2)"),
        ((1, 2), "its sides differ (left 1, right 2, top 0, bottom 0)"),
        ((-1, -1, 2, 2), "it cuts"),
        ((1, 1, 1, 1, 1, 1), "it pads channels"),
    ],
)
def test_other_sides_are_refused(attempt: Any, sides: tuple[int, ...], reason: str) -> None:
    channels = 5 if len(sides) == 6 else 3

    trial = attempt(MERGE_PAD, nn.Sequential(Pad(sides), nn.Conv2d(channels, 6, 3)))

    assert (trial.outcome.changes, trial.count(*PADS), trial.error) == (0, 1, 0)
    assert trial.outcome.refusals == (f"pad at 0: kept, {reason}",)


@pytest.mark.parametrize(
    "reader", [nn.Conv2d(3, 6, 3, padding="same"), nn.ConvTranspose2d(3, 6, 3), nn.AvgPool2d(3)], ids=str
)
def test_other_readers_are_refused(attempt: Any, reader: nn.Module) -> None:
    trial = attempt(MERGE_PAD, nn.Sequential(nn.ZeroPad2d(1), reader))

    assert (trial.outcome.changes, trial.count(*PADS), trial.error) == (0, 1, 0)
    assert len(trial.outcome.refusals) == 1 and trial.outcome.refusals[0].endswith("at 1 reads it")


def test_padded_kernel_of_a_convolution_is_refused(attempt: Any) -> None:
    class Correlate(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, F.pad(x[:, :, :3, :3], (1, 1, 1, 1)))

    trial = attempt(MERGE_PAD, nn.Sequential(Correlate()))

    assert (trial.outcome.changes, trial.count(*PADS), trial.error) == (0, 1, 0)


@pytest.mark.parametrize(
    "pad",
    [Pad((1, 1, 1, 1), "reflect"), Pad((1, 1, 1, 1), "replicate"), Pad((1, 1, 1, 1), value=0.5)],
    ids=["reflect", "replicate", "not zero"],
)
def test_pads_of_other_values_are_left_alone(attempt: Any, pad: nn.Module) -> None:
    trial = attempt(MERGE_PAD, nn.Sequential(pad, nn.Conv2d(3, 6, 3)))

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(*PADS), trial.error) == (0, (), 1, 0)
