from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.box_filter_to_depthwise import BOX_FILTER_TO_DEPTHWISE

aten = torch.ops.aten


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AvgPool2d((1, 31), stride=(2, 3), padding=(0, 15)),
        nn.AvgPool2d(5, stride=3, padding=2),
        nn.AvgPool2d((3, 5), stride=(2, 1), padding=(1, 0)),
        nn.AvgPool2d(3, padding=1),
    ],
    ids=str,
)
def test_padded_pool_becomes_a_depthwise_convolution(attempt: Any, pool: nn.Module) -> None:
    trial = attempt(BOX_FILTER_TO_DEPTHWISE, nn.Sequential(nn.Sequential(pool)))

    assert (trial.outcome.changes, trial.count(aten.avg_pool2d.default)) == (1, 0)
    (conv,) = trial.nodes(aten.conv2d.default)
    assert conv.args[6] == 3
    assert module_path(conv) == "0.0"
    assert max(trial.error, trial.ring_error) < 1e-6


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, divisor_override=7),
    ],
    ids=str,
)
def test_pool_that_counts_no_padding_is_left_alone(attempt: Any, pool: nn.Module) -> None:
    trial = attempt(BOX_FILTER_TO_DEPTHWISE, nn.Sequential(pool))

    assert (trial.outcome.changes, trial.outcome.refusals, trial.error) == (0, (), 0)
    assert trial.count(aten.avg_pool2d.default) == 1


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(5, stride=1, padding=2),
        nn.AvgPool2d(7, stride=3, padding=3),
        nn.AvgPool2d(7, stride=7, padding=3),
        nn.AvgPool2d(7, stride=(1, 4), padding=3),
        nn.AvgPool2d(9, stride=1, padding=(4, 0)),
        nn.AvgPool2d((7, 11), stride=(2, 3), padding=(3, 5)),
        nn.AvgPool2d(8, stride=2, padding=4),
    ],
    ids=str,
)
def test_a_large_window_is_averaged_by_columns_then_rows(attempt: Any, pool: nn.Module) -> None:
    trial = attempt(BOX_FILTER_TO_DEPTHWISE, nn.Sequential(pool), (1, 3, 38, 46))

    assert (trial.outcome.changes, trial.count(aten.avg_pool2d.default)) == (1, 0)
    columns, rows = trial.nodes(aten.conv2d.default)
    assert (columns.meta["shape"][3], rows.args[0]) == (46, columns)
    (decision,) = trial.outcome.decisions
    assert decision.taken == "columns, then rows"
    costs = dict(decision.costs)
    assert costs["columns, then rows"] < costs["whole"]
    assert max(trial.error, trial.ring_error) < 1e-6


def test_a_cut_window_is_refused(attempt: Any) -> None:
    trial = attempt(BOX_FILTER_TO_DEPTHWISE, nn.Sequential(nn.AvgPool2d(3, 2, 1, ceil_mode=True)), (1, 3, 38, 46))

    assert (trial.outcome.changes, trial.count(aten.avg_pool2d.default)) == (0, 1)
    assert trial.outcome.refusals == ("avg_pool2d at 0: kept, ceil_mode cuts its last window",)
