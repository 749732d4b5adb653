from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.graph.cost import count_macs, count_parameters
from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.merge_linear_convs import MERGE_LINEAR_CONVS

aten = torch.ops.aten

SHAPE = (1, 12, 13, 19)


@pytest.mark.parametrize("first_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("second_bias", [True, False], ids=["then bias", "then no bias"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"kernel_size": 1}, {"kernel_size": 1}, id="1x1 1x1"),
        pytest.param({"kernel_size": 3, "padding": 1}, {"kernel_size": 1}, id="3x3 1x1"),
        pytest.param({"kernel_size": 3, "padding": 4, "dilation": 4}, {"kernel_size": 1}, id="dilated 1x1"),
        pytest.param({"kernel_size": 3, "padding": 1, "stride": 2}, {"kernel_size": 1}, id="strided 1x1"),
        pytest.param({"kernel_size": (1, 5), "padding": (2, 0)}, {"kernel_size": 1, "stride": 3}, id="1x5 strided 1x1"),
        pytest.param({"kernel_size": 1, "padding": 1}, {"kernel_size": 1}, id="padded 1x1 1x1"),
        pytest.param({"kernel_size": 1, "stride": 2}, {"kernel_size": 1, "stride": (1, 2)}, id="strided twice"),
        pytest.param({"kernel_size": 1}, {"kernel_size": 3}, id="1x1 unpadded 3x3"),
        pytest.param({"kernel_size": 1}, {"kernel_size": (3, 2), "stride": 2, "dilation": 2}, id="1x1 dilated 3x2"),
        pytest.param({"kernel_size": 1, "groups": 4}, {"kernel_size": 1, "groups": 2}, id="groups"),
        pytest.param({"kernel_size": 1, "groups": 12}, {"kernel_size": 1}, id="a scale and 1x1"),
    ],
)
def test_two_convolutions_become_one(
    attempt: Any, first: dict[str, Any], second: dict[str, Any], first_bias: bool, second_bias: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(12, 24, **first, bias=first_bias), nn.Conv2d(24, 2, **second, bias=second_bias))

    trial = attempt(MERGE_LINEAR_CONVS, network, SHAPE)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    (conv,) = trial.nodes(aten.conv2d.default)
    assert module_path(conv) == "1"
    assert (conv.args[2] is None) == (not first_bias and not second_bias)
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("second_bias", [True, False], ids=["then bias", "then no bias"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": (2, 0), "stride": 2},
        {"kernel_size": (5, 3), "padding": 4, "dilation": 2},
        {"kernel_size": 1, "padding": 1, "stride": 9},
    ],
    ids=str,
)
def test_1x1_without_bias_merges_into_a_padded_kernel(
    attempt: Any, settings: dict[str, Any], second_bias: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(12, 24, 1, bias=False), nn.Conv2d(24, 2, **settings, bias=second_bias))

    trial = attempt(MERGE_LINEAR_CONVS, network, SHAPE)

    assert (trial.outcome.changes, trial.count(aten.conv2d.default)) == (1, 1)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_bias_of_zeros_counts_as_none(attempt: Any) -> None:
    class Zeroed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pointwise = nn.Conv2d(12, 24, 1, bias=False)
            self.register_buffer("zeros", torch.zeros(24))
            self.conv = nn.Conv2d(24, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(nn.functional.conv2d(x, self.pointwise.weight, self.zeros))

    trial = attempt(MERGE_LINEAR_CONVS, Zeroed(), SHAPE)

    assert trial.outcome.changes == 1
    assert max(trial.error, trial.ring_error) < 1e-5


def test_bias_that_the_padding_would_lose_is_refused(attempt: Any) -> None:
    trial = attempt(MERGE_LINEAR_CONVS, nn.Sequential(nn.Conv2d(12, 24, 1), nn.Conv2d(24, 2, 3, padding=1)), SHAPE)

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert trial.outcome.refusals == (
        "conv2d at 1: not merged with conv2d at 0, whose bias would be missing in the padding of conv2d at 1",
    )


@pytest.mark.parametrize("computed", [0, 1])
def test_computed_weight_is_refused(attempt: Any, computed: int) -> None:
    layers: list[nn.Module] = [nn.Conv2d(12, 24, 1), nn.Conv2d(24, 2, 1)]
    layers[computed] = weight_norm(layers[computed])

    trial = attempt(MERGE_LINEAR_CONVS, nn.Sequential(*layers), SHAPE)

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert trial.outcome.refusals == ("conv2d at 1: not merged with conv2d at 0, a weight or bias is computed",)


def test_three_become_one_even_when_only_the_last_two_shrink_at_first(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(12, 6, 3), nn.Conv2d(6, 24, 1), nn.Conv2d(24, 1, 1))

    trial = attempt(MERGE_LINEAR_CONVS, network, SHAPE)

    assert (trial.outcome.changes, trial.count(aten.conv2d.default)) == (2, 1)
    assert (count_macs(trial.graph), count_parameters(trial.graph)) == (11 * 17 * 12 * 9, 12 * 9 + 1)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_depthwise_and_1x1_to_one_channel_are_one_dense_kernel(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 1, 1))

    trial = attempt(MERGE_LINEAR_CONVS, network, SHAPE)

    (conv,) = trial.nodes(aten.conv2d.default)
    assert (conv.args[1].meta["shape"], conv.args[6]) == ((1, 12, 3, 3), 1)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_depthwise_and_a_scale_stay_depthwise(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1, groups=12), nn.Conv2d(24, 24, 1, groups=24))

    trial = attempt(MERGE_LINEAR_CONVS, network, SHAPE)

    assert trial.outcome.changes == 1
    (conv,) = trial.nodes(aten.conv2d.default)
    assert (conv.args[1].meta["shape"], conv.args[6]) == ((24, 1, 3, 3), 12)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_batch_norm_folded_into_both_is_no_activation(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(12, 40, 1), nn.BatchNorm2d(40), nn.Conv2d(40, 4, 1), nn.BatchNorm2d(4))

    trial = attempt(MERGE_LINEAR_CONVS, network, SHAPE, after=[FOLD_BATCHNORM])

    assert (trial.outcome.changes, count_parameters(trial.graph)) == (1, 12 * 4 + 4)
    assert max(trial.error, trial.ring_error) < 2e-5


class Shared(nn.Module):
    """Two convolutions of which one weight, or the map between, is used once more."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(12, 24, 1), nn.Conv2d(24, 12, 1)
        self.what = what

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        middle = self.first(x)
        y = self.second(middle)
        return y * middle.mean() if self.what == "map" else self.second(self.first(y.relu()))


@pytest.mark.parametrize("what", ["map", "weights"])
def test_what_others_need_too_is_not_merged(attempt: Any, what: str) -> None:
    trial = attempt(MERGE_LINEAR_CONVS, Shared(what), SHAPE)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.error) == (0, (), 0)


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([nn.Conv2d(12, 24, 1), nn.ReLU(), nn.Conv2d(24, 2, 1)], id="activation between"),
        pytest.param([nn.Conv2d(12, 4, 1), nn.Conv2d(4, 24, 1)], id="bottleneck"),
        pytest.param([nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 24, 1)], id="depthwise separable"),
        pytest.param([nn.Conv2d(12, 24, 3), nn.Conv2d(24, 2, 3)], id="3x3 3x3"),
        pytest.param([nn.Conv2d(12, 24, 1, padding=1), nn.Conv2d(24, 2, 3)], id="padded 1x1 3x3"),
        pytest.param([nn.Conv2d(12, 24, 1, stride=2), nn.Conv2d(24, 2, 3)], id="strided 1x1 3x3"),
        pytest.param([nn.Conv2d(12, 4, 1), nn.Conv2d(4, 24, 1, stride=4)], id="fewer macs and more parameters"),
        pytest.param(
            [nn.Conv2d(12, 10, 1, bias=False), nn.Conv2d(10, 2, 3, padding=10)], id="more macs and fewer parameters"
        ),
        pytest.param([nn.ConvTranspose2d(12, 24, 2, 2), nn.Conv2d(24, 2, 1)], id="deconvolution"),
    ],
)
def test_others_are_left_alone(attempt: Any, layers: list[nn.Module]) -> None:
    trial = attempt(MERGE_LINEAR_CONVS, nn.Sequential(*layers), SHAPE)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.error) == (0, (), 0)
