from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE
from mobile_matting_export.rewrites.deconv_to_depth_to_space import DECONV_TO_DEPTH_TO_SPACE

aten = torch.ops.aten

DECONV = aten.conv_transpose2d.input


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "biased"])
@pytest.mark.parametrize(
    ("kernel", "stride", "settings"),
    [
        (4, 2, {"padding": 1}),  # PortraitNet
        (4, 2, {}),
        (2, 2, {}),
        (3, 2, {"padding": 1, "output_padding": 1}),
        (3, 2, {"padding": 1}),
        (6, 3, {"padding": 2}),
        (8, 4, {"padding": 2}),
        (5, 2, {"padding": 2, "output_padding": 1}),
        ((3, 4), 2, {"padding": (0, 1), "output_padding": (1, 0)}),
        (2, 3, {"output_padding": 1}),  # rows and columns that only the bias reaches
    ],
    ids=str,
)
def test_transposed_convolution_becomes_depth_to_space(
    attempt: Any, kernel: Any, stride: int, settings: dict[str, Any], bias: bool
) -> None:
    trial = attempt(
        DECONV_TO_DEPTH_TO_SPACE, nn.ConvTranspose2d(24, 6, kernel, stride, bias=bias, **settings), (1, 24, 7, 9)
    )

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert (trial.count(DECONV), trial.count(aten.conv2d.default), trial.count(DEPTH_TO_SPACE)) == (0, 1, 1)
    # of outputs up to 7.5; measured 2.4e-6, borders included
    assert max(trial.error, trial.ring_error) < 1e-5


def test_kernel_that_fills_its_strides_gets_no_zeros_and_what_padding_cuts_is_cropped(attempt: Any) -> None:
    trial = attempt(DECONV_TO_DEPTH_TO_SPACE, nn.ConvTranspose2d(16, 16, 4, 2, 1, bias=False), (1, 16, 7, 9))

    (conv,) = trial.nodes(aten.conv2d.default)
    weight = trial.graph.get_buffer(str(conv.args[1].target))
    assert tuple(weight.shape) == (64, 16, 2, 2)
    assert int((weight == 0).sum()) == 0
    (crop,) = trial.nodes(CROP)
    assert crop.args[1:] == (1, 1, 14, 18)


def test_single_pixel_is_spread(attempt: Any) -> None:
    trial = attempt(DECONV_TO_DEPTH_TO_SPACE, nn.ConvTranspose2d(96, 6, 2, 2), (1, 96, 1, 1))

    assert trial.outcome.changes == 1
    assert trial.error < 1e-5


def test_kernel_of_its_stride_needs_no_crop(attempt: Any) -> None:
    trial = attempt(DECONV_TO_DEPTH_TO_SPACE, nn.ConvTranspose2d(32, 32, 2, 2), (1, 32, 7, 9))

    assert (trial.outcome.changes, trial.count(CROP)) == (1, 0)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.ConvTranspose2d(24, 24, 4, 2, 1, groups=24), "it has 24 groups"),
        (nn.ConvTranspose2d(24, 8, 3, 2, 1, dilation=2), r"its dilation is \(2, 2\)"),
        (nn.ConvTranspose2d(24, 8, 3, 1, 1), r"its stride is \(1, 1\)"),
        (nn.ConvTranspose2d(24, 8, 4, (2, 1), 1), r"its stride is \(2, 1\)"),
    ],
    ids=["groups", "dilation", "stride 1", "two strides"],
)
def test_other_transposed_convolutions_stay(attempt: Any, network: nn.Module, reason: str) -> None:
    trial = attempt(DECONV_TO_DEPTH_TO_SPACE, network, (1, 24, 7, 9))

    assert (trial.outcome.changes, trial.count(DECONV)) == (0, 1)
    (refusal,) = trial.outcome.refusals
    assert re.search(reason, refusal)


def test_computed_weight_stays(attempt: Any) -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deconv = nn.ConvTranspose2d(24, 8, 4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.deconv.weight * x.mean()
            return nn.functional.conv_transpose2d(x, weight, None, 2, 1)

    trial = attempt(DECONV_TO_DEPTH_TO_SPACE, Computed(), (1, 24, 7, 9))

    assert trial.outcome.changes == 0
    assert "its weight or bias is computed" in trial.outcome.refusals[0]


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "pays"),
    [
        (4, 92, 7, False),
        (7, 32, 14, False),
        (9, 24, 28, True),
        (16, 16, 56, True),
        (8, 2, 112, True),
        (96, 96, 14, True),
    ],
)
def test_cost_decides_as_was_timed(attempt: Any, inputs: int, outputs: int, side: int, pays: bool) -> None:
    trial = attempt(
        DECONV_TO_DEPTH_TO_SPACE, nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), (1, inputs, side, side)
    )

    assert trial.outcome.changes == int(pays)
    assert pays or "counted cheaper" in trial.outcome.refusals[0]
