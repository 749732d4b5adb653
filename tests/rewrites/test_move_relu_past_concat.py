from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.rewrites.move_relu_past_concat import MOVE_RELU_PAST_CONCAT

aten = torch.ops.aten

Joins = Callable[["Net", torch.Tensor], list[torch.Tensor]]


class Net(nn.Module):
    """relu(cat(parts)), and a convolution behind it."""

    def __init__(self, join: Joins, activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 2, 1)
        self.join, self.activation = join, activation
        self.last = nn.LazyConv2d(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.activation(torch.cat(self.join(self, x), dim=1)))


def _net(join: Joins, **settings: Any) -> Net:
    net = Net(join, **settings)
    net(torch.rand(1, 3, 37, 45))  # the last convolution learns its channels
    return net


# per name: what is joined, and how many ReLUs are left where there were how many
FOUND: dict[str, tuple[Joins, int]] = {
    "two convolutions": (lambda net, x: [net.a(x), net.b(x)], 2),
    "a convolution and a ReLU": (lambda net, x: [net.a(x), torch.relu(net.b(x))], 2),
    "a pooled ReLU": (lambda net, x: [net.a(x), F.avg_pool2d(torch.relu(net.b(x)), 3, 1, 1)], 2),
    "a highest sigmoid": (lambda net, x: [net.a(x), F.max_pool2d(torch.sigmoid(net.b(x)), 3, 1, 1)], 1),
    "resized, cut and joined ReLUs": (
        lambda net, x: [
            net.a(x),
            F.interpolate(torch.cat([F.relu6(net.b(x)), torch.relu(x)], 1), (37, 45), mode="bilinear")[:, 1:],
        ],
        2,
    ),
    "no convolution at all": (lambda net, x: [torch.relu(net.a(x)), torch.sigmoid(net.b(x))], 1),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_relu_moves_into_convolutions_and_vanishes_where_nothing_is_negative(attempt: Any, name: str) -> None:
    join, left = FOUND[name]
    trial = attempt(MOVE_RELU_PAST_CONCAT, _net(join))

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    assert trial.count(aten.relu.default) == left
    assert not any(node.args[0].target is aten.cat.default for node in trial.nodes(aten.relu.default))
    assert trial.error == trial.ring_error == 0


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 37, 1), (2, 3, 4, 6)], ids=str)
def test_any_size_stays_the_same_bit_for_bit(attempt: Any, shape: tuple[int, ...]) -> None:
    trial = attempt(MOVE_RELU_PAST_CONCAT, _net(FOUND["a pooled ReLU"][0]), shape)

    assert trial.outcome.changes == 1 and trial.error == 0


def test_relus_in_a_row_of_concatenations_all_move(attempt: Any) -> None:
    trial = attempt(
        MOVE_RELU_PAST_CONCAT,
        _net(lambda net, x: [net.a(x), torch.relu(torch.cat([net.b(x), torch.relu(x)], 1))]),
    )

    assert trial.outcome.changes == 2 and trial.count(aten.relu.default) == 3
    assert trial.error == 0


REFUSED: dict[str, tuple[Joins, str]] = {
    "a part that is no convolution": (lambda net, x: [net.a(x), x], "would need one of its own"),
    "a sum": (lambda net, x: [net.a(x), net.b(x) + 1], "add at .* would need one of its own"),
    "an average of numbers of both signs": (
        lambda net, x: [net.a(x), F.avg_pool2d(net.b(x), 3, 1, 1)],
        "avg_pool2d at .* would need one of its own",
    ),
    "a convolution read twice": (lambda net, x: [y := net.a(x), torch.relu(net.b(x)) + y[:, :2]], "is read by others"),
    "the same convolution twice": (lambda net, x: [y := net.a(x), y], "is read by others"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_cost_more_is_refused(attempt: Any, name: str) -> None:
    join, reason = REFUSED[name]
    trial = attempt(MOVE_RELU_PAST_CONCAT, _net(join))

    assert trial.outcome.changes == 0
    (refusal,) = trial.outcome.refusals
    assert re.search(reason, refusal)


def test_a_concatenation_that_others_read_keeps_its_numbers(attempt: Any) -> None:
    trial = attempt(
        MOVE_RELU_PAST_CONCAT,
        _net(lambda net, x: [net.a(x), net.b(x)], activation=lambda joined: torch.relu(joined) - joined),
    )

    assert trial.outcome.changes == 0 and trial.outcome.refusals[0].endswith("which is read 2 times")


class Rows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.cat([torch.relu(x), torch.relu(-x)], dim=2))


def test_joined_rows_are_not_looked_at(attempt: Any) -> None:
    trial = attempt(MOVE_RELU_PAST_CONCAT, Rows())

    assert (trial.outcome.changes, trial.outcome.refusals) == (0, ())


def test_other_activations_are_not_looked_at(attempt: Any) -> None:
    trial = attempt(MOVE_RELU_PAST_CONCAT, _net(lambda net, x: [net.a(x), net.b(x)], activation=F.leaky_relu))

    assert (trial.outcome.changes, trial.outcome.refusals) == (0, ())
