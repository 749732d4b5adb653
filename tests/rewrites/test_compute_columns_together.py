from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.tflite_ops import SPREAD_COLUMNS
from mobile_matting_export.rewrites.compute_columns_together import COMPUTE_COLUMNS_TOGETHER

aten = torch.ops.aten

CONV = aten.conv2d.default

# 96 columns: every number up to 16 that matters divides them; enough pixels to pay for a larger kernel
WIDE = (1, 3, 200, 96)


def kernel_of(trial: Any) -> tuple[int, ...]:
    (conv,) = trial.nodes(CONV)
    return tuple(trial.graph.get_buffer(str(conv.args[1].target)).shape)


@pytest.mark.parametrize(
    ("outputs", "together"),
    [(1, 8), (2, 4), (3, 2), (4, 2)],
)
def test_narrow_convolution_computes_columns_as_channels(attempt: Any, outputs: int, together: int) -> None:
    trial = attempt(COMPUTE_COLUMNS_TOGETHER, nn.Conv2d(3, outputs, 3, padding=1), WIDE)

    assert (trial.outcome.changes, trial.count(SPREAD_COLUMNS)) == (1, 1)
    assert kernel_of(trial) == (together * outputs, 3, 3, 3 + together - 1)
    # of outputs up to 7; measured 7.2e-7 at most, 0 for most kernels
    assert max(trial.error, trial.ring_error) < 2e-6


@pytest.mark.parametrize(
    "settings",
    [{}, {"padding": (2, 3)}, {"stride": 1, "dilation": (2, 1), "padding": (2, 1)}, {"padding": 1, "bias": False}],
    ids=str,
)
@pytest.mark.parametrize("kernel", [3, (1, 5), (5, 2)], ids=str)
def test_borders_and_odd_kernels(attempt: Any, settings: dict[str, Any], kernel: Any) -> None:
    network = nn.Conv2d(3, 1, kernel, **settings)
    padding, size = settings.get("padding", 0), kernel if isinstance(kernel, int) else kernel[1]
    side = padding if isinstance(padding, int) else padding[1]
    width = 96 + size - 1 - 2 * side  # so that there are 96 columns of outputs

    trial = attempt(COMPUTE_COLUMNS_TOGETHER, network, (1, 3, 71, width))

    assert trial.outcome.changes == 1
    assert max(trial.error, trial.ring_error) < 2e-6


def test_columns_divide_the_width(attempt: Any) -> None:
    trial = attempt(COMPUTE_COLUMNS_TOGETHER, nn.Conv2d(3, 1, 3, padding=1), (1, 3, 90, 77))

    assert kernel_of(trial) == (7, 3, 3, 9)
    assert max(trial.error, trial.ring_error) < 2e-6


def test_activation_stays_with_its_convolution(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.ReLU6(), nn.Sigmoid(), nn.PReLU(1))
    trial = attempt(COMPUTE_COLUMNS_TOGETHER, network, WIDE)

    order = [node.target for node in trial.graph.graph.nodes if node.op == "call_function"]
    assert order == [CONV, aten.hardtanh.default, aten.sigmoid.default, SPREAD_COLUMNS, aten.prelu.default]
    assert max(trial.error, trial.ring_error) < 2e-6


def test_all_readers_get_the_map(attempt: Any) -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return torch.relu(y) * y[:, :1] + y

    trial = attempt(COMPUTE_COLUMNS_TOGETHER, Forked(), WIDE)

    (spread,) = trial.nodes(SPREAD_COLUMNS)
    assert (trial.outcome.changes, len(spread.users)) == (1, 3)
    assert max(trial.error, trial.ring_error) < 2e-6


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), WIDE),
        (nn.Conv2d(3, 1, 1), WIDE),
        (nn.Conv2d(3, 1, 3, stride=2, padding=1), WIDE),
        (nn.Conv2d(3, 1, 3, padding=2, dilation=2), WIDE),
        (nn.Conv2d(3, 3, 3, padding=1, groups=3), WIDE),
    ],
    ids=["wide", "1x1", "stride", "dilation", "depthwise"],
)
def test_other_convolutions_are_not_looked_at(attempt: Any, network: nn.Module, shape: tuple[int, ...]) -> None:
    trial = attempt(COMPUTE_COLUMNS_TOGETHER, network, shape)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(SPREAD_COLUMNS)) == (0, (), 0)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(3, 1, 3, padding=1), (1, 3, 80, 83)),
        (nn.Conv2d(3, 1, 3, padding=1), (1, 3, 8, 8)),
        (nn.Conv2d(3, 5, 3, padding=1), WIDE),
    ],
    ids=["prime width", "small map", "fills a vector of eight"],
)
def test_what_does_not_pay_is_refused(attempt: Any, network: nn.Module, shape: tuple[int, ...]) -> None:
    trial = attempt(COMPUTE_COLUMNS_TOGETHER, network, shape)

    assert (trial.outcome.changes, trial.count(SPREAD_COLUMNS)) == (0, 0)
    assert "one by one" in trial.outcome.refusals[0]
