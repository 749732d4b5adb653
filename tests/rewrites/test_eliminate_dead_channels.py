from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.channels import survey
from mobile_matting_export.graph.cost import count_parameters
from mobile_matting_export.network import load_network
from mobile_matting_export.rewrites.eliminate_dead_channels import ELIMINATE_DEAD_CHANNELS
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.rewrite import Rewrite, apply_rewrites, run_all
from mobile_matting_export.rewrites.spell_instance_norm import SPELL_INSTANCE_NORM
from mobile_matting_export.targets import find_target

aten = torch.ops.aten

CONV, DECONV = aten.conv2d.default, aten.conv_transpose2d.input

Fixed = Mapping[str, Mapping[int, float]]


class Pruned(nn.Module):
    """``net`` after pruning: when put into eval mode, so after its numbers have been drawn.

    ``fixed``: layer -> output channel -> the value its bias gives it, whatever the picture.
    ``unread``: layer -> input channels it ignores.
    """

    def __init__(self, net: nn.Module, fixed: Fixed, unread: Mapping[str, tuple[int, ...]] | None = None) -> None:
        super().__init__()
        self.net, self.fixed, self.unread = net, fixed, unread or {}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)

    def train(self, mode: bool = True) -> Pruned:
        super().train(mode)
        with torch.no_grad():
            for name, channels in self.fixed.items() if not mode else ():
                layer: Any = self.net.get_submodule(name)
                rows = layer.weight.transpose(0, 1) if _is_dense_deconv(layer) else layer.weight
                for channel, value in channels.items():
                    rows[channel] = 0
                    if layer.bias is not None:
                        layer.bias[channel] = value
            for name, inputs in self.unread.items() if not mode else ():
                columns: Any = self.net.get_submodule(name).weight
                columns[:, list(inputs)] = 0
        return self


def _is_dense_deconv(layer: nn.Module) -> bool:
    return isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1


class Between(nn.Module):
    """``first`` (3 -> 6) -> ``step`` -> ``last``; the step may use ``beside``, another 3 -> 6 convolution."""

    def __init__(self, step: Callable[..., torch.Tensor], last: nn.Module, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.beside = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.layer = layer or nn.Identity()
        self.step, self.last = step, last

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.step(self, self.first(image), image))


def padded(width: int = 6) -> nn.Conv2d:
    return nn.Conv2d(width, 2, 3, padding=1)


def pointwise(width: int = 6) -> nn.Conv2d:
    return nn.Conv2d(width, 2, 1)


def widths(trial: Any, *targets: Any) -> list[int]:
    return [node.meta["shape"][1] for node in trial.nodes(*targets)]


ZERO: Fixed = {"first": {1: 0.0, 4: 0.0}}
BOTH: Fixed = {"first": {1: 0.0, 4: 0.0}, "beside": {1: 0.0, 4: 0.0}}

# each keeps zero zero, so a padded convolution behind it loses the channels
ZERO_STAYS_ZERO: dict[str, Any] = {
    "relu": lambda n, x, i: F.relu(x),
    "hardtanh": lambda n, x, i: F.hardtanh(x, -0.5, 0.5),
    "relu6": lambda n, x, i: F.relu6(x),
    "clamp": lambda n, x, i: x.clamp(-1, 1),
    "leaky relu": lambda n, x, i: F.leaky_relu(x, 0.1),
    "prelu": (lambda n, x, i: n.layer(x), nn.PReLU(6)),
    "prelu of one slope": (lambda n, x, i: n.layer(x), nn.PReLU(1)),
    "hardswish": lambda n, x, i: F.hardswish(x),
    "gelu": lambda n, x, i: F.gelu(x),
    "times a number": lambda n, x, i: x * 0.3,
    "bilinear": lambda n, x, i: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear to the corners": lambda n, x, i: F.interpolate(x, size=(50, 31), mode="bilinear", align_corners=True),
    "nearest": lambda n, x, i: F.interpolate(x, size=(50, 31)),
    "padded max pool": lambda n, x, i: F.max_pool2d(x, 3, 2, 1),
    "padded average pool": lambda n, x, i: F.avg_pool2d(x, 3, 2, 1),
    "average pool of another divisor": lambda n, x, i: F.avg_pool2d(x, 3, divisor_override=5),
    "average pool of cut windows": lambda n, x, i: F.avg_pool2d(x, 2, ceil_mode=True),
    "global pool": lambda n, x, i: F.adaptive_avg_pool2d(x, 5),
    "mean": lambda n, x, i: x - x.mean((2, 3), keepdim=True),
    "zero pad": lambda n, x, i: F.pad(x, (0, 1, 2, 3)),
    "reflection pad": lambda n, x, i: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "crop": lambda n, x, i: x[:, :, 3:, 4:30],
    "depthwise": (lambda n, x, i: n.layer(x), nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False)),
    "depthwise deconv": (lambda n, x, i: n.layer(x), nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6, bias=False)),
    "product": lambda n, x, i: x * n.beside(i),
    "product with one channel": lambda n, x, i: x * torch.sigmoid(n.beside(i)[:, :1]),
    "product with a gate": lambda n, x, i: x * torch.sigmoid(F.adaptive_avg_pool2d(n.beside(i), 1)),
    "itself twice": lambda n, x, i: x + F.relu(x),
    "instance norm": (lambda n, x, i: n.layer(x), nn.InstanceNorm2d(6)),
    "instance norm with scale, without shift": (
        lambda n, x, i: F.instance_norm(x, weight=n.layer.weight),
        nn.InstanceNorm2d(6, affine=True),
    ),
}


@pytest.mark.parametrize("name", ZERO_STAYS_ZERO)
def test_zero_channels_go_with_all_that_is_computed_of_them(attempt: Any, name: str) -> None:
    step = ZERO_STAYS_ZERO[name]
    step, layer = step if isinstance(step, tuple) else (step, None)

    network = Pruned(Between(step, padded(), layer), ZERO)
    trial = attempt(ELIMINATE_DEAD_CHANNELS, network)

    assert trial.outcome.changes > 0 and trial.outcome.refusals == ()
    assert 6 not in [width for node, width in _maps(trial.graph) if node.name not in ("conv2d_1", "slice_1")]
    assert widths(trial, CONV)[0] == 4 and widths(trial, CONV)[-1] == 2
    assert trial.nodes(CONV)[-1].args[0].meta["shape"][1] == 4
    assert max(trial.error, trial.ring_error) < 1e-5


def _maps(graph: fx.GraphModule) -> list[tuple[fx.Node, int]]:
    return [(node, node.meta["shape"][1]) for node in graph.graph.nodes if node.op == "call_function"]


# each makes another number of zero
ZERO_BECOMES_A_CONSTANT: dict[str, Any] = {
    "sigmoid": lambda n, x, i: torch.sigmoid(x),
    "hardsigmoid": lambda n, x, i: F.hardsigmoid(x),
    "plus a number": lambda n, x, i: x + 0.5,
    "one minus": lambda n, x, i: 1 - x,
    "clamp": lambda n, x, i: x.clamp(0.25, 1),
    "sigmoid, then max pool": lambda n, x, i: F.max_pool2d(torch.sigmoid(x), 3, 2, 1),
    "sigmoid, then average pool": lambda n, x, i: F.avg_pool2d(torch.sigmoid(x), 2),
    "sigmoid, then average of what is there": lambda n, x, i: F.avg_pool2d(
        torch.sigmoid(x), 3, 2, 1, count_include_pad=False
    ),
    "sigmoid, then bilinear": lambda n, x, i: F.interpolate(torch.sigmoid(x), scale_factor=2, mode="bilinear"),
    "pad of the same number": lambda n, x, i: F.pad(torch.sigmoid(x), (1, 2, 3, 1), value=0.5),
}


@pytest.mark.parametrize("name", ZERO_BECOMES_A_CONSTANT)
def test_a_constant_goes_into_the_bias_of_an_unpadded_convolution(attempt: Any, name: str) -> None:
    network = Between(ZERO_BECOMES_A_CONSTANT[name], nn.Conv2d(6, 2, 3, bias=False))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, ZERO))

    assert widths(trial, CONV) == [4, 2]
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("name", ZERO_BECOMES_A_CONSTANT)
def test_a_constant_stays_where_a_padded_convolution_reads_it(attempt: Any, name: str) -> None:
    step = ZERO_BECOMES_A_CONSTANT[name]

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, padded()), ZERO))

    assert (trial.outcome.changes, trial.error) == (0, 0)
    assert widths(trial, CONV) == [6, 2]


# a constant, then what would take it to the borders changed
NOT_CONSTANT_ANY_MORE: dict[str, Any] = {
    "padded average pool": lambda n, x, i: F.avg_pool2d(x, 3, 1, 1),
    "zero pad": lambda n, x, i: F.pad(x, (1, 0, 0, 0)),
    "padded depthwise": (lambda n, x, i: n.layer(x), nn.Conv2d(6, 6, 3, padding=1, groups=6)),
    "deconv": (lambda n, x, i: n.layer(x), nn.ConvTranspose2d(6, 6, 3, 2, 1)),
}


@pytest.mark.parametrize("name", NOT_CONSTANT_ANY_MORE)
def test_a_constant_ends_at_padding(attempt: Any, name: str) -> None:
    step = NOT_CONSTANT_ANY_MORE[name]
    step, layer = step if isinstance(step, tuple) else (step, None)

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, pointwise(), layer), {"first": {1: 0.7}}))

    assert (trial.outcome.changes, trial.error) == (0, 0)


def test_max_pool_with_holes_in_its_window_ends_a_constant(attempt: Any) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return F.relu(F.max_pool2d(x[:, :, :1], (2, 1), 1, (1, 0), dilation=(2, 1)))  # reads rows -1 and 1 of one

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, pointwise()), {"first": {1: 0.7}}))

    assert (trial.outcome.changes, trial.error) == (0, 0)


@pytest.mark.parametrize(
    ("stride", "size", "taps", "goes"),
    [
        pytest.param(1, 37, (1, 1), True, id="centre"),
        pytest.param(1, 37, (0, 1), False, id="first row"),
        pytest.param(1, 37, (1, 2), False, id="last column"),
        pytest.param(2, 38, (2, 2), True, id="stride 2 never reaches past an even side"),
        pytest.param(2, 37, (2, 2), False, id="but past an odd one"),
    ],
)
def test_padding_counts_where_it_is_read(
    attempt: Any, stride: int, size: int, taps: tuple[int, int], goes: bool
) -> None:
    class Peeking(Pruned):
        def train(self, mode: bool = True) -> Pruned:
            super().train(mode)
            if not mode:
                column = torch.zeros(2, 3, 3)
                column[:, taps[0], taps[1]] = 1.5
                self.net.last.weight.data[:, 1] = column  # type: ignore[union-attr]
            return self

    network = Peeking(Between(lambda n, x, i: x, nn.Conv2d(6, 2, 3, stride, 1)), {"first": {1: 0.7}})
    trial = attempt(ELIMINATE_DEAD_CHANNELS, network, shape=(1, 3, size, size))

    assert widths(trial, CONV) == ([5, 2] if goes else [6, 2])
    assert max(trial.error, trial.ring_error) < 1e-5


def test_channels_that_nobody_reads_go(attempt: Any) -> None:
    network = Between(lambda n, x, i: F.relu(x), padded())

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {}, {"last": (0, 5)}))

    assert (trial.outcome.changes, widths(trial, CONV)) == (2, [4, 2])
    assert trial.error < 1e-5


@pytest.mark.parametrize(
    ("fixed", "goes"),
    [
        pytest.param(BOTH, 2, id="zero on both sides"),
        pytest.param({"first": {1: 0.0}, "beside": {1: 0.0, 4: 0.0}}, 1, id="zero on one side only"),
        pytest.param({"first": {1: 0.3}, "beside": {1: -0.3}}, 1, id="opposite constants"),
        pytest.param({"first": {1: 0.3}, "beside": {1: 0.3}}, 0, id="constants that do not cancel"),
    ],
)
def test_both_sides_of_a_sum_lose_the_same_channels(attempt: Any, fixed: Fixed, goes: int) -> None:
    network = Between(lambda n, x, i: F.relu(x) + n.beside(i), padded())

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, fixed))

    assert (trial.outcome.changes, widths(trial, CONV)) == (goes, [6 - goes, 6 - goes, 2])
    assert trial.error < 1e-5


def test_a_channel_that_the_other_reader_of_a_sum_needs_stays(attempt: Any) -> None:
    network = Between(lambda n, x, i: torch.cat([x + n.beside(i), x], dim=1), padded(12))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"beside": {1: 0.0}}, {"last": (1,)}))

    assert (trial.outcome.changes, trial.error) == (0, 0)


def test_both_sides_of_a_concatenation_lose_their_own_channels(attempt: Any) -> None:
    network = Between(lambda n, x, i: torch.cat([F.relu(x), n.beside(i)], dim=1), padded(12))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"first": {1: 0.0}, "beside": {2: 0.0, 3: 0.0}}))

    assert (widths(trial, CONV), widths(trial, aten.cat.default)) == ([5, 4, 2], [9])
    assert trial.error < 1e-5


def test_a_dead_part_of_a_concatenation_vanishes(attempt: Any) -> None:
    network = Between(lambda n, x, i: torch.cat([F.relu(x), n.beside(i)], dim=1), padded(12))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"first": dict.fromkeys(range(6), 0.0)}))

    assert (widths(trial, CONV), trial.count(aten.cat.default, aten.relu.default)) == ([6, 2], 0)
    assert trial.error < 1e-5


@pytest.mark.parametrize("swapped", [False, True])
def test_a_branch_that_adds_zero_vanishes(attempt: Any, swapped: bool) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        sides = (F.relu(x), F.relu(n.beside(i)))
        return sides[1] + sides[0] if swapped else sides[0] + sides[1]

    network = Pruned(Between(step, padded()), {"first": dict.fromkeys(range(6), 0.0)})
    trial = attempt(ELIMINATE_DEAD_CHANNELS, network)

    assert (widths(trial, CONV), trial.count(aten.add.Tensor), trial.count(aten.relu.default)) == ([6, 2], 0, 1)
    assert trial.error == 0


def test_a_branch_that_adds_a_constant_goes_into_the_bias_before_the_sum(attempt: Any) -> None:
    network = Between(lambda n, x, i: n.beside(i) + F.relu(x), padded())
    fixed = {"first": {channel: channel - 2.5 for channel in range(6)}}

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, fixed))

    assert (widths(trial, CONV), trial.count(aten.add.Tensor, aten.relu.default)) == ([6, 2], 0)
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("join", [torch.add, torch.sub, torch.mul])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_branch_that_joins_a_constant_becomes_stored_numbers(attempt: Any, join: Any, swapped: bool) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        sides = (F.relu(n.beside(i)), torch.sigmoid(x))
        return join(*(reversed(sides) if swapped else sides))

    network = Pruned(Between(step, padded()), {"first": {channel: channel - 2.5 for channel in range(6)}})
    trial = attempt(ELIMINATE_DEAD_CHANNELS, network)

    assert (widths(trial, CONV), trial.count(aten.sigmoid.default)) == ([6, 2], 0)
    assert max(trial.error, trial.ring_error) < 1e-5


def test_a_sum_with_two_constant_sides_is_one_constant(attempt: Any) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return torch.cat([n.beside(i) + x, i], dim=1)

    numbers = {channel: channel - 2.5 for channel in range(6)}
    network = Pruned(Between(step, pointwise(9)), {"first": numbers, "beside": numbers})
    trial = attempt(ELIMINATE_DEAD_CHANNELS, network)

    assert (widths(trial, CONV), trial.count(aten.cat.default, aten.add.Tensor)) == ([2], 0)
    assert trial.error < 1e-5


def test_numbers_stored_beside_a_sum_are_left_alone(attempt: Any) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.arange(6.0).view(1, 6, 1, 1))
            self.register_buffer("maps", torch.arange(2.0 * 37 * 45).view(1, 2, 37, 45) / 999)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([F.relu(x) + self.shift, self.maps], dim=1)

    network = Between(lambda n, x, i: n.layer(x), padded(8), Shifted())
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"first": {0: 0.0, 3: -3.0}}, {"last": (2, 7)}))

    assert (widths(trial, CONV), widths(trial, aten.cat.default)) == ([4, 2], [5])
    assert trial.error < 1e-5


def test_depthwise_convolutions_lose_weights_and_groups(attempt: Any) -> None:
    layer = nn.Sequential(nn.Conv2d(6, 6, 3, 2, 2, 2, groups=6), nn.ConvTranspose2d(6, 6, 3, 2, groups=6))
    network = Between(lambda n, x, i: n.layer(x), pointwise(), layer)

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {}, {"last": (2,)}))

    conv, deconv = trial.nodes(CONV)[1], trial.nodes(DECONV)[0]
    assert (conv.args[6], conv.args[1].meta["shape"], conv.args[2].meta["shape"]) == (5, (5, 1, 3, 3), (5,))
    assert (deconv.args[6], deconv.args[1].meta["shape"], deconv.args[2].meta["shape"]) == (5, (5, 1, 3, 3), (5,))
    assert max(trial.error, trial.ring_error) < 1e-5


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_depthwise_convolutions_with_two_outputs_a_channel_lose_pairs(attempt: Any, kind: Any) -> None:
    network = Between(lambda n, x, i: n.layer(x), pointwise(12), kind(6, 12, 3, groups=6))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {}, {"last": (2, 3, 5, 8)}))

    assert [width for _, width in _maps(trial.graph)] == [5, 10, 2]
    assert trial.error < 1e-5


def test_a_depthwise_convolution_of_zeros_hands_on_its_bias(attempt: Any) -> None:
    network = Between(lambda n, x, i: F.relu(n.layer(x)), pointwise(), nn.Conv2d(6, 6, 3, padding=1, groups=6))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"layer": {1: 0.7, 2: -0.7}}))

    assert widths(trial, CONV) == [4, 4, 2]
    assert max(trial.error, trial.ring_error) < 1e-5


def test_transposed_convolutions_lose_inputs_and_outputs(attempt: Any) -> None:
    network = Between(lambda n, x, i: F.relu(n.layer(x)), padded(5), nn.ConvTranspose2d(6, 5, 4, 2, 1))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"first": {1: 0.0}, "layer": {0: 0.0, 3: -1.0}}))

    assert [width for _, width in _maps(trial.graph)] == [5, 3, 3, 2]
    assert max(trial.error, trial.ring_error) < 1e-5


def test_a_transposed_convolution_of_zeros_hands_on_its_bias(attempt: Any) -> None:
    network = Between(lambda n, x, i: F.relu(n.layer(x)), pointwise(5), nn.ConvTranspose2d(6, 5, 4, 2, 1))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"layer": {0: 0.7, 3: 0.2}}))

    assert [width for _, width in _maps(trial.graph)] == [6, 3, 3, 2]
    assert max(trial.error, trial.ring_error) < 1e-5


RANGES: dict[str, Any] = {
    "slices": lambda x: (x[:, :2], x[:, 2:]),
    "chunks": lambda x: x.chunk(2, dim=1),
    "sizes": lambda x: x.split([1, 5], dim=1),
    "overlapping": lambda x: (x[:, :-1], x[:, 1:]),
}


@pytest.mark.parametrize("form", RANGES)
def test_ranges_of_channels_shrink_with_their_source(attempt: Any, form: str) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        left, right = RANGES[form](x)
        return torch.cat([F.relu(right), torch.tanh(left)], dim=1)

    width = 10 if form == "overlapping" else 6
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, padded(width)), ZERO))

    assert widths(trial, CONV) == [4, 2]
    assert trial.error < 1e-5


@pytest.mark.parametrize("form", ["slices", "chunks", "sizes"])
def test_a_dead_range_vanishes_and_the_other_is_the_source(attempt: Any, form: str) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        left, right = RANGES[form](x)
        return torch.cat([F.relu(right), torch.tanh(left)], dim=1)

    fixed = {"first": dict.fromkeys(range({"slices": 2, "chunks": 3, "sizes": 1}[form]), 0.0)}
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, padded()), fixed))

    names = [str(node.target) for node, _ in _maps(trial.graph)]
    assert names == ["aten.conv2d.default", "aten.relu.default", "aten.conv2d.default"]
    assert trial.error < 1e-5


def test_a_dead_end_takes_what_leads_to_it(attempt: Any) -> None:
    layer = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU())
    network = Between(lambda n, x, i: n.layer(x), padded(4), layer)

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(network, {"layer.0": {3: 0.1}}, {"last": (0,), "layer.0": (5,)}))

    assert widths(trial, CONV) == [5, 7, 3, 2]
    assert max(trial.error, trial.ring_error) < 1e-5


def test_a_convolution_needed_for_its_constant_alone_keeps_one_input(attempt: Any) -> None:
    layer = nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.ReLU())

    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return torch.cat([n.layer(x), i], dim=1)

    fixed = {"layer.0": {channel: 0.1 * channel for channel in range(5)}}
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, padded(8), layer), fixed))

    assert widths(trial, CONV) == [1, 4, 2]  # of the five constants one is zero
    assert max(trial.error, trial.ring_error) < 1e-5


def test_a_network_of_zeros_keeps_its_image_and_its_result(attempt: Any) -> None:
    layer = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 5, 1), nn.ReLU())
    fixed = {"first": dict.fromkeys(range(6), 0.0), "layer.1": dict.fromkeys(range(5), 0.2), "last": {0: 0.7, 1: 0.0}}

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(lambda n, x, i: n.layer(x), padded(5), layer), fixed))

    assert [width for _, width in _maps(trial.graph)] == [1, 1, 1, 1, 2]
    assert trial.nodes(CONV)[0].args[0].meta["shape"] == (1, 3, 37, 45)
    assert trial.error < 1e-6


@pytest.mark.parametrize(
    ("step", "layer", "refusal"),
    [
        pytest.param(
            lambda n, x, i: n.layer(x),
            nn.Conv2d(6, 6, 3, padding=1, groups=3),
            "conv2d at net.layer: kept whole with 2 unneeded inputs and 0 constant outputs, "
            "its 3 groups must stay equal in size",
            id="groups",
        ),
        pytest.param(
            lambda n, x, i: n.layer(x),
            nn.ConvTranspose2d(6, 6, 3, groups=3),
            "conv_transpose2d at net.layer: kept whole with 2 unneeded inputs and 0 constant outputs, "
            "its 3 groups must stay equal in size",
            id="groups of a transposed convolution",
        ),
        pytest.param(
            lambda n, x, i: F.channel_shuffle(x, 2),
            None,
            "channel_shuffle at net: kept whole with 2 constant channels, it is not understood",
            id="channel shuffle",
        ),
        pytest.param(
            lambda n, x, i: torch.softmax(x, dim=1),
            None,
            "softmax at net: kept whole with 2 constant channels, it is not understood",
            id="softmax over channels",
        ),
        pytest.param(
            lambda n, x, i: F.pad(x, (0, 0, 0, 0, 0, 1))[:, :6],
            None,
            "pad at net: kept whole with 2 constant channels, it is not understood",
            id="pad of channels",
        ),
        pytest.param(
            lambda n, x, i: x[:, ::2].repeat_interleave(2, dim=1),
            None,
            "slice at net: kept whole with 2 constant channels, it is not understood",
            id="every second channel",
        ),
        pytest.param(
            lambda n, x, i: x + x.mean(1, keepdim=True),
            None,
            "mean at net: kept whole with 2 constant channels, it is not understood",
            id="mean over channels",
        ),
        pytest.param(
            lambda n, x, i: x * x.view(1, 6, -1).mean(2).view(1, 6, 1, 1),
            None,
            "view at net: kept whole with 2 constant channels, it is not understood",
            id="reshape",
        ),
        pytest.param(
            lambda n, x, i: n.layer(x),
            nn.Conv2d(6, 6, 3, padding="same"),
            "conv2d at net.layer: kept whole with 2 constant channels, it is not understood",
            id="padding by name",
        ),
    ],
)
def test_what_is_not_understood_keeps_all_it_reads(
    attempt: Any, step: Any, layer: nn.Module | None, refusal: str
) -> None:
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, padded(), layer), ZERO))

    assert (trial.outcome.changes, widths(trial, CONV)[0], trial.error) == (0, 6, 0)
    assert refusal in trial.outcome.refusals


def test_small_weights_are_not_zero(attempt: Any) -> None:
    class Faint(Pruned):
        def train(self, mode: bool = True) -> Pruned:
            super().train(mode)
            if not mode:
                self.net.first.weight.data[1, 0, 0, 0] = 1e-30  # type: ignore[union-attr]
            return self

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Faint(Between(lambda n, x, i: x, padded()), ZERO))

    assert widths(trial, CONV) == [5, 2]


def test_what_is_not_understood_goes_when_nobody_needs_it(attempt: Any) -> None:
    def step(n: Any, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return torch.cat([F.channel_shuffle(x, 2), n.beside(i)], dim=1)

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Between(step, padded(12)), {}, {"last": tuple(range(6))}))

    assert [str(node.target) for node, _ in _maps(trial.graph)] == ["aten.conv2d.default"] * 2
    assert trial.outcome.refusals == ()
    assert trial.error < 1e-5


def test_the_result_keeps_its_zero_channels(attempt: Any) -> None:
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(nn.Sequential(nn.Conv2d(3, 4, 3)), {"0": {1: 0.0}}))

    assert (trial.outcome.changes, trial.error) == (0, 0)


def test_a_layer_used_twice_is_stored_once(attempt: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.last = nn.Conv2d(6, 3, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.last(F.relu(self.first(self.last(F.relu(self.first(image))))))

    trial = attempt(ELIMINATE_DEAD_CHANNELS, Pruned(Twice(), ZERO))

    assert widths(trial, CONV) == [4, 3, 4, 3]
    assert count_parameters(trial.graph) == 4 * 27 + 4 + 3 * 36 + 3
    assert trial.error < 1e-5


@pytest.mark.parametrize("earlier", [(), (SPELL_INSTANCE_NORM,)])
def test_only_the_shift_of_an_instance_norm_is_left_of_a_constant(attempt: Any, earlier: tuple[Rewrite, ...]) -> None:
    class Normed(Pruned):
        def train(self, mode: bool = True) -> Pruned:
            super().train(mode)
            norm = self.net.layer  # type: ignore[union-attr]
            norm.bias.data[:] = torch.tensor([0.2, 0.0, -0.3, 0.4, 0.5, 0.6])  # type: ignore[index,union-attr]
            return self

    network = Between(lambda n, x, i: F.relu(n.layer(x)), padded(), nn.InstanceNorm2d(6, affine=True))
    fixed = {"first": {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}}
    trial = attempt(ELIMINATE_DEAD_CHANNELS, Normed(network, fixed), after=earlier)

    assert widths(trial, CONV) == [4, 2]  # of the four constants two are zero behind the relu
    assert max(trial.error, trial.ring_error) < 1e-4


def test_zeros_show_once_batch_norms_are_folded(attempt: Any) -> None:
    class Slimmed(Pruned):
        """Network slimming: norms whose scale has gone to zero, with and without a shift."""

        def train(self, mode: bool = True) -> Pruned:
            super().train(mode)
            norm = self.net.layer[0]  # type: ignore[index,union-attr]
            norm.weight.data[:3] = 0
            norm.bias.data[:3] = torch.tensor([0.5, -0.5, 0.0])
            return self

    layer = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6))
    network = Slimmed(Between(lambda n, x, i: F.relu(n.layer(x)), pointwise(), layer), {})
    trial = attempt(ELIMINATE_DEAD_CHANNELS, network, after=(FOLD_BATCHNORM,))

    assert widths(trial, CONV) == [4, 4, 2]  # the padded depthwise convolution reads 0.5: that one stays
    assert max(trial.error, trial.ring_error) < 1e-5


# --- random networks ---------------------------------------------------------------------------------

STEPS = ("conv", "pointwise", "deconv", "depthwise", "grouped", "relu", "sigmoid", "prelu", "pool", "box", "bilinear",
         "add", "product", "cat", "slice", "chunk")  # fmt: skip


class Step(nn.Module):
    """One step on a map of four channels, which may look back at the map before."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        layers: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
            "pointwise": lambda: nn.Conv2d(4, 4, 1, bias=False),
            "deconv": lambda: nn.ConvTranspose2d(4, 4, 4, 2, 1),
            "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
            "grouped": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2),
            "relu": lambda: nn.ReLU(),
            "sigmoid": lambda: nn.Sigmoid(),
            "prelu": lambda: nn.PReLU(4),
            "pool": lambda: nn.MaxPool2d(3, 2, 1),
            "box": lambda: nn.AvgPool2d(3, 1, 1),
            "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
            "cat": lambda: nn.Conv2d(8, 4, 1),
        }
        self.layer = layers.get(kind, nn.Identity)()

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        if before.shape != x.shape:
            before = F.interpolate(before, size=x.shape[2:])
        if self.kind == "add":
            return x + before
        if self.kind == "product":
            return x * before
        if self.kind == "cat":
            return self.layer(torch.cat([x, before], dim=1))
        if self.kind == "slice":
            return torch.cat([x[:, 1:], before[:, :1]], dim=1)
        if self.kind == "chunk":
            left, right = x.chunk(2, dim=1)
            return torch.cat([F.relu(right), left], dim=1)
        return self.layer(x)


class RandomNetwork(nn.Module):
    """A first convolution, the steps, and one channel of a last convolution; some layers pruned."""

    def __init__(self, kinds: list[str], seed: int, pruned: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.steps = nn.ModuleList(Step(kind) for kind in kinds)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

        def chosen(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator) < pruned

        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer is not self.last:
                weight = layer.weight.data.transpose(0, 1) if _is_dense_deconv(layer) else layer.weight.data
                weight[chosen(len(weight))] = 0
                weight[:, chosen(weight.shape[1]) & chosen(weight.shape[1])] = 0
                if layer.bias is not None:
                    layer.bias.data[chosen(4)] = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = before = self.first(image)
        for step in self.steps:
            x, before = step(x, before), x
        return self.last(x)


def test_random_pruned_network_keeps_its_function() -> None:
    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(
        kinds=st.lists(st.sampled_from(STEPS), min_size=1, max_size=7),
        seed=st.integers(0, 999),
        pruned=st.sampled_from([0.2, 0.5, 0.8]),
    )
    def check(kinds: list[str], seed: int, pruned: float) -> None:
        network = RandomNetwork(kinds, seed, pruned).eval()
        image = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(seed))
        graph = capture(network, {"image": image})
        _check_values(graph, image)

        rewritten, (step, again) = apply_rewrites(graph, [ELIMINATE_DEAD_CHANNELS] * 2, [(image,)])

        expected, result = run_all(graph, [(image,)])[0], run_all(rewritten, [(image,)])[0]
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
        _check_shapes(rewritten, image)
        assert again.changes == 0
        assert bool(step.changes) == (rewritten.code != graph.code)

    check()


def _check_values(graph: fx.GraphModule, image: torch.Tensor) -> None:
    """Whatever the analysis calls constant is, at every pixel."""
    found = survey(graph)

    class Checker(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and node in found.values:
                values = found.values[node]
                wrong = (result.double() - values.view(1, -1, 1, 1)).abs()[0, ~values.isnan()]
                assert wrong.numel() == 0 or float(wrong.max()) < 1e-5, node.name
            return result

    with torch.no_grad():
        Checker(graph).run(image)


def _check_shapes(graph: fx.GraphModule, image: torch.Tensor) -> None:
    class Checker(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and node.op != "output":
                assert node.meta["shape"] == tuple(result.shape) and result.numel() > 0, node.name
            return result

    with torch.no_grad():
        Checker(graph).run(image)


# --- a trained network -------------------------------------------------------------------------------


def test_trained_portraitnet_shrinks_to_its_thirtieth(shared: Path) -> None:
    network = load_network("portraitnet_video", shared / "weights" / "portraitnet_video" / "portraitnet_video_fp16.pt")
    generator = torch.Generator().manual_seed(3)
    probes = [
        (torch.randn(1, 3, 224, 224, generator=generator), previous)
        for previous in (torch.zeros(1, 1, 224, 224), torch.rand(1, 1, 224, 224, generator=generator))
    ]
    captured = capture(network.module, network.examples())
    earlier = [rewrite for rewrite in find_target("tflite-cpu").rewrites if rewrite is not ELIMINATE_DEAD_CHANNELS]
    before, _ = apply_rewrites(captured, earlier, probes)

    after, (step, again) = apply_rewrites(before, [ELIMINATE_DEAD_CHANNELS] * 2, probes)

    print(f"{count_parameters(before)} -> {count_parameters(after)} parameters, error {step.max_abs_error:.1e}")
    assert count_parameters(before) > 2_000_000
    assert count_parameters(after) <= 75_000
    assert step.max_abs_error <= 1e-4
    assert (step.refusals, again.changes) == ((), 0)
    assert all(width > 0 for _, width in _maps(after))
