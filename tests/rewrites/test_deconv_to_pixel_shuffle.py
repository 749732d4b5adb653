from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.rewrites.deconv_to_pixel_shuffle import DECONV_TO_PIXEL_SHUFFLE

aten = torch.ops.aten

DECONV = aten.conv_transpose2d.input
KEPT_OR_SPELT = ("transposed convolution", "pixel shuffle")


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "biased"])
@pytest.mark.parametrize("size", [(28, 28), (29, 31), (5, 41)], ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "settings"),
    [
        (4, 2, {"padding": 1}),  # PortraitNet
        ((4, 5), 2, {"padding": (1, 2), "output_padding": (0, 1)}),
        (5, 2, {"padding": 2, "output_padding": 1}),
        (6, 2, {"padding": 2}),
        (6, 3, {"padding": 2, "output_padding": 1}),
        (9, 3, {"padding": 3}),
    ],
    ids=str,
)
def test_transposed_convolution_becomes_pixel_shuffle(
    attempt: Any, kernel: Any, stride: int, settings: dict[str, Any], size: tuple[int, int], bias: bool
) -> None:
    network = nn.ConvTranspose2d(8, 24, kernel, stride, bias=bias, **settings)
    trial = attempt(DECONV_TO_PIXEL_SHUFFLE, network, (1, 8, *size))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(DECONV), trial.count(aten.conv2d.default), trial.count(aten.pixel_shuffle.default)) == (0, 1, 1)
    # of outputs up to 8; measured 9.6e-7, borders included
    assert max(trial.error, trial.ring_error) < 1e-5


def test_four_taps_of_nine_are_a_phase_of_portraitnet(attempt: Any) -> None:
    trial = attempt(DECONV_TO_PIXEL_SHUFFLE, nn.ConvTranspose2d(16, 24, 4, 2, 1, bias=False), (1, 16, 28, 28))

    (conv,) = trial.nodes(aten.conv2d.default)
    weight = trial.graph.get_buffer(str(conv.args[1].target))
    assert tuple(weight.shape) == (96, 16, 3, 3)
    assert int((weight == 0).sum()) == 96 * 16 * 5
    # the phase of even rows and columns reads what is above and left, the last one what is below and right
    assert not weight[0::4, :, 2].any() and not weight[0::4, :, :, 2].any()
    assert not weight[3::4, :, 0].any() and not weight[3::4, :, :, 0].any()


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8), "it has 8 groups"),
        (nn.ConvTranspose2d(8, 8, 3, 2, 2, 1, dilation=2), r"its dilation is \(2, 2\)"),
        (nn.ConvTranspose2d(8, 8, 3, 1, 1), r"its stride is \(1, 1\)"),
        (nn.ConvTranspose2d(8, 8, 4, (2, 1), 1), r"its stride is \(2, 1\)"),
        (nn.ConvTranspose2d(8, 8, 4, 2), "its result is not 2 times its input"),
        (nn.ConvTranspose2d(8, 8, 3, 2, 1), "its result is not 2 times its input"),
        (nn.ConvTranspose2d(8, 8, 2, 2), "read 0 and 0 pixels further"),
        (nn.ConvTranspose2d(8, 8, (4, 2), 2, (1, 0)), "read 1 and 0 pixels further"),
        (nn.ConvTranspose2d(8, 8, 8, 2, 3), "read 2 and 2 pixels further"),
    ],
    ids=str,
)
def test_other_transposed_convolutions_stay(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(DECONV_TO_PIXEL_SHUFFLE, network, (1, 8, 28, 28))

    assert (trial.outcome.changes, trial.count(DECONV), trial.outcome.decisions) == (0, 1, ())
    (refusal,) = trial.outcome.refusals
    assert re.search(reason, refusal)


def test_computed_weight_stays(attempt: Any) -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deconv = nn.ConvTranspose2d(8, 8, 4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv_transpose2d(x, self.deconv.weight * x.mean(), None, 2, 1)

    trial = attempt(DECONV_TO_PIXEL_SHUFFLE, Computed(), (1, 8, 28, 28))

    assert trial.outcome.changes == 0
    assert "its weight or bias is computed" in trial.outcome.refusals[0]


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "pays"),
    [
        (4, 96, 7, False),  # the four of trained portraitnet_video
        (8, 32, 14, False),
        (16, 24, 28, True),
        (16, 16, 56, True),
        (96, 96, 7, False),  # the other ones of unpruned portraitnet
        (32, 32, 14, False),
        (24, 24, 28, False),
        (8, 8, 112, True),
    ],
)
def test_cost_decides_as_was_timed_in_networks(attempt: Any, inputs: int, outputs: int, side: int, pays: bool) -> None:
    network = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    trial = attempt(DECONV_TO_PIXEL_SHUFFLE, network, (1, inputs, side, side))

    assert trial.outcome.changes == int(pays)
    assert pays or "counted cheaper" in trial.outcome.refusals[0]
    (decision,) = trial.outcome.decisions
    costs = dict(decision.costs)
    assert decision.taken == min(costs, key=lambda form: costs[form]) == KEPT_OR_SPELT[pays]
