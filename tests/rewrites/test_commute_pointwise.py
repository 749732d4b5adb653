from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mobile_matting_export.graph.cost import count_macs
from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.networks.mmnet import LegacyUpsample
from mobile_matting_export.rewrites.commute_pointwise import COMMUTE_POINTWISE
from mobile_matting_export.rewrites.softmax2_to_sigmoid import SOFTMAX2_TO_SIGMOID

aten = torch.ops.aten

SHAPE = (1, 16, 7, 11)
PIXELS = 7 * 11


class Repeat(nn.Module):
    """Pads by the border's own values, mirrored or repeated."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (2, 1, 1, 3), mode=self.mode)


class Function(nn.Module):
    """A function as a module, for tests that need one line of it."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def bilinear(factor: float = 2, *, corners: bool = False) -> nn.Module:
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=corners)


@pytest.mark.parametrize(
    "passed",
    [
        pytest.param([bilinear()], id="half-pixel"),
        pytest.param([bilinear(corners=True)], id="corners"),
        pytest.param([nn.Upsample(size=(20, 23), mode="bilinear")], id="fixed size"),
        pytest.param([nn.Upsample(scale_factor=3)], id="nearest"),
        pytest.param([LegacyUpsample()], id="legacy"),
        pytest.param([LegacyUpsample(), LegacyUpsample()], id="legacy twice"),
        pytest.param([bilinear(), LegacyUpsample(), bilinear(corners=True)], id="three"),
        pytest.param([bilinear(4), nn.AvgPool2d(2)], id="resize and pool"),
        pytest.param([bilinear(4), nn.AvgPool2d((2, 3), stride=(1, 2))], id="resize and overlapping pool"),
        pytest.param([Repeat("replicate"), bilinear()], id="repeated border"),
        pytest.param([Repeat("reflect"), bilinear()], id="mirrored border"),
    ],
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_convolution_runs_before_what_takes_means(attempt: Any, passed: list[nn.Module], bias: bool) -> None:
    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(nn.ReLU(), *passed, nn.Conv2d(16, 5, 1, bias=bias)), SHAPE)

    assert (trial.outcome.changes, trial.outcome.refusals) == (1, ())
    (conv,) = trial.nodes(aten.conv2d.default)
    assert conv.args[0].target is aten.relu.default
    assert module_path(conv) == str(1 + len(passed))
    assert count_macs(trial.graph) == PIXELS * 16 * 5
    assert max(trial.error, trial.ring_error) < 3e-6


@pytest.mark.parametrize("shape", [(1, 16, 1, 1), (1, 16, 1, 9), (1, 16, 2, 3)], ids=str)
def test_smallest_maps_keep_their_borders(attempt: Any, shape: tuple[int, ...]) -> None:
    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(LegacyUpsample(), bilinear(), nn.Conv2d(16, 2, 1)), shape)

    assert trial.outcome.changes == 1
    assert max(trial.error, trial.ring_error) < 3e-6


def test_constant_map_stays_constant_so_bias_is_counted_once(attempt: Any) -> None:
    network = nn.Sequential(Function(torch.zeros_like), LegacyUpsample(), LegacyUpsample(), nn.Conv2d(16, 3, 1))

    trial = attempt(COMMUTE_POINTWISE, network, SHAPE)

    assert (trial.outcome.changes, trial.error < 1e-6) == (1, True)


def test_two_convolutions_pass_one_after_another(attempt: Any) -> None:
    network = nn.Sequential(nn.ReLU(), bilinear(), nn.Conv2d(16, 8, 1), LegacyUpsample(), nn.Conv2d(8, 1, 1))

    trial = attempt(COMMUTE_POINTWISE, network, SHAPE)

    assert trial.outcome.changes == 2
    assert count_macs(trial.graph) == PIXELS * (16 * 8 + 8)
    assert max(trial.error, trial.ring_error) < 3e-6


def test_only_as_far_as_pixels_are_fewest(attempt: Any) -> None:
    network = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2, stride=1), nn.AvgPool2d(2), bilinear(4), nn.Conv2d(16, 16, 1))

    trial = attempt(COMMUTE_POINTWISE, network, SHAPE)

    assert trial.outcome.changes == 1
    (conv,) = trial.nodes(aten.conv2d.default)
    assert module_path(conv.args[0]) == "2"
    assert count_macs(trial.graph) == 3 * 5 * 16 * 16


@pytest.mark.parametrize("groups", [2, 16])
def test_grouped_convolution_moves_as_well(attempt: Any, groups: int) -> None:
    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(bilinear(), nn.Conv2d(16, 16, 1, groups=groups)), SHAPE)

    assert (trial.outcome.changes, count_macs(trial.graph)) == (1, PIXELS * 16 * 16 // groups)
    assert max(trial.error, trial.ring_error) < 3e-6


def test_difference_of_classes_passes_the_legacy_resize(attempt: Any) -> None:
    network = nn.Sequential(nn.Conv2d(16, 2, 3, padding=1), nn.ReLU(), LegacyUpsample(), nn.Softmax(dim=1))

    trial = attempt(COMMUTE_POINTWISE, network, SHAPE, after=[SOFTMAX2_TO_SIGMOID])

    assert trial.outcome.changes == 1
    assert [node.meta["shape"][1] for node in trial.nodes(aten.upsample_bilinear2d.vec)] == [1]
    assert max(trial.error, trial.ring_error) < 1e-6


class ReadTwice(nn.Module):
    """An upsampled map read by a convolution and, at ``place``, by something else."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.relu, self.up, self.legacy = nn.ReLU(), bilinear(), LegacyUpsample()
        self.conv = nn.Conv2d(16, 1, 1)
        self.place = place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        source = self.relu(x)
        middle = self.up(source)
        end = self.legacy(middle)
        other = {"source": source, "middle": middle, "end": end}[self.place]
        return self.conv(end) * other.mean()


@pytest.mark.parametrize(("place", "pixels"), [("source", PIXELS), ("middle", 4 * PIXELS)])
def test_other_reader_stops_the_convolution_behind_it(attempt: Any, place: str, pixels: int) -> None:
    trial = attempt(COMMUTE_POINTWISE, ReadTwice(place), SHAPE)

    assert (trial.outcome.changes, count_macs(trial.graph)) == (1, pixels * 16)
    assert max(trial.error, trial.ring_error) < 3e-6


def test_other_reader_of_the_end_is_refused(attempt: Any) -> None:
    trial = attempt(COMMUTE_POINTWISE, ReadTwice("end"), SHAPE)

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert trial.outcome.refusals == (
        "conv2d at conv: stays behind slice at legacy, slice at legacy is read elsewhere",
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "tail", "moves"),
    [
        pytest.param(16, 16, [], True, id="as many channels"),
        pytest.param(4, 4, [nn.ReLU()], False, id="few channels and an activation that is fused"),
        pytest.param(4, 4, [nn.Sigmoid()], True, id="few channels and an activation that is not"),
        pytest.param(32, 32, [nn.ReLU6()], True, id="many channels and an activation that is fused"),
        pytest.param(2, 64, [], False, id="a wider resize costs more than it saves"),
        pytest.param(64, 96, [], True, id="a wider resize costs less than it saves"),
    ],
)
def test_move_must_pay(attempt: Any, inputs: int, outputs: int, tail: list[nn.Module], moves: bool) -> None:
    network = nn.Sequential(bilinear(), nn.Conv2d(inputs, outputs, 1), *tail)

    trial = attempt(COMMUTE_POINTWISE, network, (1, inputs, 7, 11))

    assert (trial.outcome.changes, count_macs(trial.graph)) == (moves, PIXELS * inputs * outputs * (1 if moves else 4))
    reasons = () if moves else ("conv2d at 1: stays behind upsample_bilinear2d at 0, it would be dearer before it",)
    assert trial.outcome.refusals == reasons
    assert trial.error < 1e-5


def test_computed_weight_is_refused(attempt: Any) -> None:
    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(bilinear(), weight_norm(nn.Conv2d(16, 4, 1))), SHAPE)

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert trial.outcome.refusals == (
        "conv2d at 1: stays behind upsample_bilinear2d at 0, its weight or bias is computed",
    )


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([bilinear(), nn.Conv2d(16, 4, 3, padding=1)], id="3x3"),
        pytest.param([bilinear(), nn.Conv2d(16, 4, 1, padding=1)], id="padded"),
        pytest.param([bilinear(), nn.Conv2d(16, 4, 1, stride=2)], id="strided"),
        pytest.param([bilinear(), nn.ReLU(), nn.Conv2d(16, 4, 1)], id="activation between"),
        pytest.param([bilinear(0.5), nn.Conv2d(16, 4, 1)], id="fewer pixels behind"),
        pytest.param([nn.AvgPool2d(2), nn.Conv2d(16, 4, 1)], id="pool"),
        pytest.param([nn.AvgPool2d(3, stride=1), nn.Conv2d(16, 4, 1)], id="pool of every pixel"),
        pytest.param([nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1)], id="global pool"),
        pytest.param([nn.Upsample(scale_factor=2, mode="bicubic"), nn.Conv2d(16, 4, 1)], id="bicubic"),
        pytest.param([nn.ZeroPad2d(3), nn.Conv2d(16, 4, 1)], id="zero pad"),
        pytest.param([bilinear(), nn.AvgPool2d(3, 1, 1), nn.Conv2d(16, 4, 1)], id="padded pool"),
        pytest.param([bilinear(), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Conv2d(16, 4, 1)], id="ceil"),
        pytest.param([bilinear(), nn.AvgPool2d(2, 1, divisor_override=3), nn.Conv2d(16, 4, 1)], id="divisor"),
        pytest.param([bilinear(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 4, 1)], id="max pool"),
    ],
)
def test_other_neighbours_are_left_alone(attempt: Any, layers: list[nn.Module]) -> None:
    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(nn.ReLU(), *layers), SHAPE)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.error) == (0, (), 0)


@pytest.mark.parametrize(
    "mix",
    [
        pytest.param(lambda x: torch.cat([bilinear()(x), bilinear()(x)], dim=1), id="channels concatenated"),
        pytest.param(lambda x: bilinear()(x)[:, 3:], id="channels cut"),
        pytest.param(lambda x: torch.cat([x, x.relu(), x.relu()], dim=2), id="rows of two maps"),
    ],
)
def test_other_ways_to_cut_and_join_are_left_alone(attempt: Any, mix: Callable[[torch.Tensor], torch.Tensor]) -> None:
    channels = mix(torch.zeros(SHAPE)).shape[1]

    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(nn.ReLU(), Function(mix), nn.Conv2d(channels, 4, 1)), SHAPE)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.error) == (0, (), 0)


@pytest.mark.parametrize(("outputs", "taken"), [(4, "moved"), (64, "as written")])
def test_what_was_weighed_is_recorded(attempt: Any, outputs: int, taken: str) -> None:
    trial = attempt(COMMUTE_POINTWISE, nn.Sequential(bilinear(), nn.Conv2d(16, outputs, 1)), SHAPE)

    (decision,) = trial.outcome.decisions
    assert (decision.place, decision.taken, trial.outcome.changes) == ("1", taken, taken == "moved")
    resized = 32 * 4 * PIXELS  # each element that the upsampling writes costs as much as 32 of a 1x1 convolution
    assert dict(decision.costs) == {
        "as written": 16 * outputs * 4 * PIXELS + 16 * resized,
        "moved": 16 * outputs * PIXELS + outputs * resized,
    }
