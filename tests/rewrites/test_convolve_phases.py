from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.rewrites.convolve_phases import CONVOLVE_PHASES

aten = torch.ops.aten

DECONV = aten.conv_transpose2d.input


class Head(nn.Module):
    """A transposed convolution, a convolution of it and a sigmoid, or in another form something else."""

    def __init__(self, first: nn.Module, second: nn.Module, form: str = "plain") -> None:
        super().__init__()
        self.first, self.second, self.form = first, second, form

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        large = self.first(F.relu(image))
        if self.form == "activated":
            large = F.relu(large)
        result = torch.sigmoid(self.second(large))
        return result + large[:, :1] if self.form == "read elsewhere" else result


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "biased"])
@pytest.mark.parametrize(
    ("transposed", "plain", "masks"),
    [
        ((4, 2, 1), (3, 1, 1), 2),  # PortraitNet
        ((4, 2, 1), ((3, 1), 1, (1, 0)), 2),
        ((4, 2, 1), (3, 1, 0), 2),
        ((2, 2, 0), (1, 1, 0), 0),
        ((5, 3, 1), (3, 1, 1), 2),
        ((6, 3, 2, 1), (3, 1, 1), 2),
        ((8, 4, 2), (3, 1, 1), 2),
        (((4, 2), 2, (1, 0)), ((3, 1), 1, (1, 0)), 1),
    ],
    ids=str,
)
def test_convolution_behind_a_transposed_one_reads_its_phases(
    attempt: Any, transposed: tuple[Any, ...], plain: tuple[Any, ...], masks: int, bias: bool
) -> None:
    network = Head(nn.ConvTranspose2d(8, 3, *transposed, bias=bias), nn.Conv2d(3, 1, *plain, bias=bias))
    trial = attempt(CONVOLVE_PHASES, network, (1, 8, 7, 9))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(DECONV), trial.count(aten.conv2d.default), trial.count(aten.pixel_shuffle.default)) == (0, 2, 1)
    assert trial.count(aten.mul.Tensor) == masks
    # of an alpha in 0..1; measured 1.8e-7, borders included
    assert max(trial.error, trial.ring_error) < 1e-6


def test_both_convolutions_of_portraitnet_get_kernels_of_four_taps(attempt: Any) -> None:
    network = Head(nn.ConvTranspose2d(8, 2, 4, 2, 1, bias=False), nn.Conv2d(2, 1, 3, 1, 1, bias=False))
    trial = attempt(CONVOLVE_PHASES, network, (1, 8, 7, 9))

    first, second = trial.nodes(aten.conv2d.default)
    weights = [trial.graph.get_buffer(str(conv.args[1].target)) for conv in (first, second)]
    assert [tuple(weight.shape) for weight in weights] == [(8, 8, 2, 2), (8, 8, 2, 2)]
    assert int((weights[0] == 0).sum()) == 0
    # the second one's outputs are filled up to a vector of 8, and cut to 4 phases
    assert not weights[1][4:].any()
    assert [node.meta["shape"][1] for node in (second, *trial.nodes(aten.slice.Tensor))] == [8, 4]
    masks = [trial.graph.get_buffer(str(node.args[1].target)) for node in trial.nodes(aten.mul.Tensor)]
    assert [tuple(mask.shape) for mask in masks] == [(1, 8, 8, 1), (1, 8, 1, 10)]
    assert first.meta["shape"] == (1, 8, 8, 10)


@pytest.mark.parametrize(("channels", "outputs"), [(1, 4), (2, 8), (3, 4), (4, 4)])
def test_result_of_one_vector_of_phases_gets_a_vector(attempt: Any, channels: int, outputs: int) -> None:
    network = Head(nn.ConvTranspose2d(8, channels, 4, 2, 1), nn.Conv2d(channels, 1, 3, 1, 1))
    trial = attempt(CONVOLVE_PHASES, network, (1, 8, 7, 9))

    assert trial.nodes(aten.conv2d.default)[-1].meta["shape"][1] == outputs
    assert trial.count(aten.slice.Tensor) == int(outputs == 8)
    assert max(trial.error, trial.ring_error) < 1e-6


def test_single_pixel_is_spread(attempt: Any) -> None:
    trial = attempt(CONVOLVE_PHASES, Head(nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.Conv2d(2, 1, 3, 1, 1)), (1, 4, 1, 1))

    assert trial.outcome.changes == 1
    assert trial.error < 1e-6


@pytest.mark.parametrize(
    ("first", "second", "form", "reason"),
    [
        (nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.Conv2d(2, 1, 3, 1, 1), "read elsewhere", "which are read elsewhere"),
        (nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4), nn.Conv2d(4, 1, 3, 1, 1), "plain", "one of them has groups"),
        (nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.Conv2d(2, 1, 3, 2, 1), "plain", "a dilation, or the second one a str"),
        (nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.Conv2d(2, 1, 3, 1, 1, dilation=2), "plain", "has a dilation"),
        (nn.ConvTranspose2d(4, 2, 3, 1, 1), nn.Conv2d(2, 1, 3, 1, 1), "plain", r"its stride is \(1, 1\)"),
        (nn.ConvTranspose2d(4, 2, 4, (2, 1), 1), nn.Conv2d(2, 1, 3, 1, 1), "plain", r"its stride is \(2, 1\)"),
        (nn.ConvTranspose2d(4, 5, 4, 2, 1), nn.Conv2d(5, 1, 3, 1, 1), "plain", "5 channels, more than 4"),
        (nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.Conv2d(2, 1, 5, 1, 2), "plain", "do not fit the result's size"),
        (nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.Conv2d(2, 1, 2, 1, 1), "plain", "do not fit the result's size"),
        (nn.ConvTranspose2d(4, 2, 2, 2, 0, 1), nn.Conv2d(2, 1, 1), "plain", "do not fit the result's size"),
    ],
)
def test_other_pairs_stay(attempt: Any, first: nn.Module, second: nn.Module, form: str, reason: str) -> None:
    trial = attempt(CONVOLVE_PHASES, Head(first, second, form), (1, 4, 7, 9))

    assert (trial.outcome.changes, trial.count(DECONV)) == (0, 1)
    (refusal,) = trial.outcome.refusals
    assert re.search(reason, refusal)


@pytest.mark.parametrize(
    ("second", "form"), [(nn.Conv2d(2, 2, 3, 1, 1), "plain"), (nn.Conv2d(2, 1, 3, 1, 1), "activated")]
)
def test_several_channels_and_an_activation_between_are_not_found(attempt: Any, second: nn.Module, form: str) -> None:
    trial = attempt(CONVOLVE_PHASES, Head(nn.ConvTranspose2d(4, 2, 4, 2, 1), second, form), (1, 4, 7, 9))

    assert (trial.outcome.changes, trial.outcome.refusals) == (0, ())


def test_computed_weight_stays(attempt: Any) -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ConvTranspose2d(4, 2, 4, 2, 1)
            self.second = nn.Conv2d(2, 1, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(self.first(x), self.second.weight * x.mean(), None, 1, 1)

    trial = attempt(CONVOLVE_PHASES, Computed(), (1, 4, 7, 9))

    assert trial.outcome.changes == 0
    assert "a weight or bias is computed" in trial.outcome.refusals[0]
