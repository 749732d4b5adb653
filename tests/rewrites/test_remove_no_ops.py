from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS

aten = torch.ops.aten

EXPANDS = (aten.expand.default, aten.expand_as.default)


class Calling(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x.clone() * 2, id="clone"),
        pytest.param(lambda x: x.transpose(2, 3).contiguous() * 2, id="contiguous"),
        pytest.param(lambda x: F.dropout(x, training=False) * 2, id="dropout"),
        pytest.param(lambda x: x[:, :, :37] * 2, id="whole slice"),
        pytest.param(lambda x: F.pad(x, (0, 0, 0, 0)) * 2, id="empty pad"),
        pytest.param(lambda x: x.expand(1, 3, 37, 45) * 2, id="expand to the same shape"),
    ],
)
def test_no_op_is_removed(attempt: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    trial = attempt(REMOVE_NO_OPS, Calling(function))

    assert trial.error == 0
    assert {node.target for node in trial.graph.graph.nodes if node.op == "call_function"} <= {
        aten.mul.Tensor,
        aten.transpose.int,
    }
    assert trial.outcome.refusals == ()


def test_expand_before_a_product_is_left_to_broadcasting(attempt: Any) -> None:
    trial = attempt(REMOVE_NO_OPS, Calling(lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x)))

    assert (trial.outcome.changes, trial.count(*EXPANDS), trial.error) == (1, 0, 0)


def test_expand_read_by_a_concatenation_is_refused(attempt: Any) -> None:
    pooled = Calling(lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], dim=1))

    trial = attempt(REMOVE_NO_OPS, nn.Sequential(pooled))

    assert (trial.outcome.changes, trial.count(*EXPANDS)) == (0, 1)
    assert trial.outcome.refusals == ("expand at 0: kept, it is read by more than pointwise operators",)


def test_two_expanded_operands_are_refused(attempt: Any) -> None:
    def outer(x: torch.Tensor) -> torch.Tensor:
        rows = x.mean(3, keepdim=True).expand(1, 3, 37, 45)
        columns = x.mean(2, keepdim=True).expand(1, 3, 37, 45)
        return rows * columns

    trial = attempt(REMOVE_NO_OPS, nn.Sequential(Calling(outer)))

    # one of them must keep its size for the other to broadcast to; the second then has no full partner left
    assert trial.outcome.changes + len(trial.outcome.refusals) == 2
    assert trial.count(*EXPANDS) == 1
    assert trial.outcome.refusals == ("expand at 0: kept, no other operand has its shape",)
    assert trial.error == 0


def test_cast_of_a_comparison_is_kept(attempt: Any) -> None:
    # a sum of two booleans is a boolean
    trial = attempt(REMOVE_NO_OPS, Calling(lambda x: (x > 0).float() + (x > 0.5).float()))

    assert trial.count(aten._to_copy.default) == 2
    assert trial.error == 0


def test_view_after_a_removed_copy_becomes_a_reshape(attempt: Any) -> None:
    class Shuffle(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.view(1, 2, 3, 37, 45).transpose(1, 2).contiguous().view(1, 6, 37, 45)

    trial = attempt(REMOVE_NO_OPS, nn.Sequential(Shuffle()), (1, 6, 37, 45))

    assert trial.count(aten.clone.default, aten.contiguous.default, aten.view.default) == 0
    assert [module_path(node) for node in trial.nodes(aten.reshape.default)] == ["0", "0"]
    assert trial.error == 0
