from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.rewrites.eliminate_dead_channels import ELIMINATE_DEAD_CHANNELS
from mobile_matting_export.rewrites.rewrite import apply_rewrites
from mobile_matting_export.rewrites.round_up_channels import ROUND_UP_CHANNELS, round_up_channels

aten = torch.ops.aten


class Between(nn.Module):
    """Two maps of odd widths that meet in some way between a first and a last convolution."""

    def __init__(self, form: str, first: int = 5, second: int = 5, last: int = 1) -> None:
        super().__init__()
        self.form = form
        self.first = nn.Conv2d(3, first, 3, padding=1)
        self.second = nn.Conv2d(3, second, 3, padding=1)
        self.depthwise = nn.Conv2d(first, first, 3, padding=1, groups=first)
        self.grouped = nn.Conv2d(first, 2 * first, 3, padding=1, groups=first)
        self.up = nn.ConvTranspose2d(first, second, 4, 2, 1)
        self.prelu = nn.PReLU(first)
        self.norm = nn.InstanceNorm2d(first, affine=True)
        widths = {"cat": first + second, "grouped": 2 * first, "up": second, "image": 3 + first, "slice": 2}
        self.last = nn.Conv2d(widths.get(form, first), last, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x, y = F.relu(self.first(image)), self.second(image)
        steps: dict[str, Any] = {
            "plain": lambda: x,
            "depthwise": lambda: self.depthwise(x),
            "grouped": lambda: self.grouped(x),
            "up": lambda: self.up(x),
            "add": lambda: x + y,
            "cat": lambda: F.relu(torch.cat([x, y], 1)),
            "image": lambda: torch.cat([image, x], 1),
            "slice": lambda: x[:, :2],
            "prelu": lambda: self.prelu(x),
            "norm": lambda: self.norm(x),
            "gate": lambda: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
            "pool": lambda: F.avg_pool2d(F.interpolate(x, scale_factor=2, mode="bilinear"), 3, 1, 1),
            "quotient": lambda: x / (y + 9),
            "plain sum": lambda: x + y[:, :1],
        }
        return torch.sigmoid(self.last(steps[self.form]()))


def widths(trial: Any) -> list[int]:
    return [node.meta["shape"][1] for node in trial.nodes(aten.conv2d.default, aten.conv_transpose2d.input)]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("plain", [8, 1]),
        ("depthwise", [8, 8, 1]),
        ("up", [8, 8, 1]),
        ("add", [8, 8, 1]),
        ("cat", [8, 8, 1]),
        ("prelu", [8, 1]),
        ("norm", [8, 1]),
        ("gate", [8, 1]),
        ("pool", [8, 1]),
    ],
)
def test_maps_that_convolutions_make_get_whole_vectors(attempt: Any, form: str, expected: list[int]) -> None:
    trial = attempt(ROUND_UP_CHANNELS, Between(form))

    assert widths(trial) == expected
    assert trial.outcome.changes > 0
    # of an alpha in 0..1; measured 1.2e-7 at most
    assert max(trial.error, trial.ring_error) < 1e-6


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("grouped", "needs channels as they are"),
        ("slice", "slice at .* needs channels as they are"),
        ("quotient", "div at .* makes infinities of zeros"),
    ],
)
def test_maps_whose_channels_are_counted_stay(attempt: Any, form: str, reason: str) -> None:
    trial = attempt(ROUND_UP_CHANNELS, Between(form))

    assert trial.outcome.changes == 0
    assert any(re.search(reason, refusal) for refusal in trial.outcome.refusals)


def test_what_is_joined_to_an_input_stays_where_no_multiple_comes_of_it(attempt: Any) -> None:
    trial = attempt(ROUND_UP_CHANNELS, Between("image", first=13))

    assert (widths(trial), trial.outcome.changes) == ([13, 1], 0)
    (refusal,) = (refusal for refusal in trial.outcome.refusals if "first" in refusal)
    assert "keeps its 13 channels" in refusal and "no multiple of 4" in refusal


@pytest.mark.parametrize(
    ("multiple", "channels", "expected"),
    [(8, 1, 1), (8, 2, 4), (8, 4, 4), (8, 5, 8), (4, 5, 8), (4, 17, 20), (8, 17, 24), (16, 17, 32)],
)
def test_multiple_says_how_many(attempt: Any, multiple: int, channels: int, expected: int) -> None:
    trial = attempt(round_up_channels(multiple), Between("plain", first=channels))

    assert widths(trial) == [expected, 1]


class Products(nn.Module):
    """Two 1x1 convolutions, or one with a stride and another, and a map between them that something else may touch."""

    def __init__(self, channels: int, form: str = "") -> None:
        super().__init__()
        kernel, stride = {"stride": (3, 2), "window": (3, 1)}.get(form, (1, 1))
        self.form = form
        self.first = nn.Conv2d(8, channels, kernel, stride)
        self.other = nn.Conv2d(8, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, groups=channels)
        self.last = nn.Conv2d(channels, 8, 3 if form == "read by a window" else 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first(x))
        if self.form == "sum":
            y = y + self.other(x)
        if self.form == "pooled":
            y = F.avg_pool2d(y, 2)
        if self.form == "depthwise":
            y = self.depthwise(y)
        return torch.sigmoid(self.last(y))


@pytest.mark.parametrize(
    ("form", "channels", "stays"),
    [
        ("", 17, True),
        ("stride", 17, True),  # the first convolution of PortraitNet, pruned
        ("", 13, False),
        ("stride", 13, False),
        ("window", 17, False),
        ("read by a window", 17, False),
        ("sum", 17, False),
        ("pooled", 17, False),
        ("depthwise", 17, False),
    ],
)
def test_map_between_matrix_products_stays_as_wide_as_it_is(
    attempt: Any, form: str, channels: int, stays: bool
) -> None:
    trial = attempt(ROUND_UP_CHANNELS, Products(channels, form), (1, 8, 9, 11))

    assert (widths(trial)[0] == channels) is stays
    kept = [refusal for refusal in trial.outcome.refusals if "keeps its 17 channels, only matrix products" in refusal]
    assert len(kept) == int(stays)
    assert max(trial.error, trial.ring_error) < 1e-6


def test_dead_channels_leave_what_was_filled_up() -> None:
    network = Between("add", first=12, second=12).eval()
    with torch.no_grad():
        for conv in (network.first, network.second):
            conv.weight[5:] = 0
            conv.bias[5:] = 0
    image = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    row = (ELIMINATE_DEAD_CHANNELS, ROUND_UP_CHANNELS)
    rewritten, steps = apply_rewrites(capture(network, {"image": image}), row, [(image,)])
    again, further = apply_rewrites(rewritten, row, [(image,)])

    assert [step.changes for step in steps] == [7, 2]
    assert [step.changes for step in further] == [0, 0]
    assert again.code == rewritten.code
