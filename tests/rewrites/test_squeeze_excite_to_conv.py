from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS
from mobile_matting_export.rewrites.squeeze_excite_to_conv import SQUEEZE_EXCITE_TO_CONV

aten = torch.ops.aten


class SqueezeExcite(nn.Module):
    """Scales each channel by two linear layers on the channels' means; ``form`` is a way to spell it."""

    def __init__(self, form: str, activation: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(8, 4), activation, nn.Linear(4, 8, bias=False), nn.Sigmoid())
        self.form = form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.form == "view":
            return x * self.fc(self.pool(x).view(1, 8)).view(1, 8, 1, 1).expand_as(x)
        if self.form == "flatten":
            return x * self.fc(torch.flatten(self.pool(x), 1)).unsqueeze(2).unsqueeze(3)
        if self.form == "squeeze":
            return x * self.fc(self.pool(x).squeeze((2, 3)))[:, :, None, None]
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


@pytest.mark.parametrize("form", ["view", "flatten", "squeeze", "mean"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.PReLU(4), nn.Hardswish()], ids=str)
def test_linear_layers_become_1x1_convolutions(attempt: Any, form: str, activation: nn.Module) -> None:
    trial = attempt(SQUEEZE_EXCITE_TO_CONV, SqueezeExcite(form, activation), (1, 8, 37, 45), after=[REMOVE_NO_OPS])

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    calls = [node.target for node in trial.graph.graph.nodes if node.op == "call_function"]
    assert len(calls) == 6  # pool, conv, activation, conv, sigmoid, product
    assert [module_path(node) for node in trial.nodes(aten.conv2d.default)] == ["fc.0", "fc.2"]
    assert max(trial.error, trial.ring_error) < 1e-6


def test_other_reader_of_the_flat_part_is_refused(attempt: Any) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), nn.Softmax(dim=1))

    trial = attempt(SQUEEZE_EXCITE_TO_CONV, network, (1, 8, 37, 45))

    assert (trial.outcome.changes, trial.count(aten.linear.default)) == (0, 1)
    assert trial.outcome.refusals == ("view at 1: left flat, softmax at 3 reads it",)


def test_return_to_other_channels_is_refused(attempt: Any) -> None:
    class Regroup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.mean((2, 3))).view(2, 4, 1, 1)

    trial = attempt(SQUEEZE_EXCITE_TO_CONV, nn.Sequential(Regroup()), (1, 8, 37, 45))

    assert (trial.outcome.changes, trial.count(aten.linear.default)) == (0, 1)
    assert trial.outcome.refusals == ("mean at 0: left flat, view at 0 reads it",)


@pytest.mark.parametrize(("axes", "shape"), [((1, 2), (1, 8, 5, 8)), ((1, 3), (1, 8, 8, 5))])
def test_mean_over_channels_is_no_squeeze(attempt: Any, axes: tuple[int, int], shape: tuple[int, ...]) -> None:
    class Profile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.mean(axes))[:, :, None, None]

    trial = attempt(SQUEEZE_EXCITE_TO_CONV, Profile(), shape)

    assert (trial.outcome.changes, trial.error) == (0, 0)
