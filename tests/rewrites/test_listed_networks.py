"""Every listed network survives all rewrites of TFLite, the longest list there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.alpha_network import AlphaNetwork
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.networks import ALL
from mobile_matting_export.networks.spec import NetworkSpec
from mobile_matting_export.rewrites.rewrite import Step, apply_rewrites, run_all
from mobile_matting_export.targets import TARGETS, find_target

aten = torch.ops.aten

# the longest row: what TFLite files go through
REWRITES = find_target("tflite-gpu").rewrites
SHORTER_ROWS = tuple(dict.fromkeys(target.rewrites for target in TARGETS if target.rewrites != REWRITES))

GONE = (
    aten.batch_norm.default,
    aten.instance_norm.default,
    aten.softmax.int,
    aten.expand.default,
    aten.expand_as.default,
    aten.linear.default,
    aten.slice_scatter.default,
    aten.clone.default,
)

# what becomes a TRANSPOSE, since TFLite keeps channels last
TRANSPOSE_MAKERS = (
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.permute.default,
    aten.transpose.int,
    aten.flatten.using_ints,
    aten.pixel_shuffle.default,
    aten.channel_shuffle.default,
)


@dataclass(frozen=True)
class Case:
    network: AlphaNetwork
    inputs: dict[str, torch.Tensor]
    expected: torch.Tensor
    captured: fx.GraphModule
    rewritten: fx.GraphModule
    steps: tuple[Step, ...]

    @property
    def probe(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.inputs.values())


@pytest.fixture(scope="module")
def case_of(randomised: Callable[[nn.Module], nn.Module]) -> Callable[[NetworkSpec], Case]:
    """Captures and rewrites each network once for all tests of this file."""

    @cache
    def build(name: str) -> Case:
        spec = next(spec for spec in ALL if spec.name == name)
        return _case(spec, randomised)

    return lambda spec: build(spec.name)


def _case(spec: NetworkSpec, randomised: Callable[[nn.Module], nn.Module]) -> Case:
    height, width = spec.size if spec.fixed_size else (2 * spec.divisor, 3 * spec.divisor)
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(0)
    inputs = {"image": torch.randn(1, 3, height, width, generator=generator)}
    for state in spec.state:
        inputs[state.name] = torch.rand(1, state.channels, height, width, generator=generator)
    net = randomised(spec.build())
    network = AlphaNetwork(net, spec.head).eval()
    _calibrate(network, tuple(inputs.values()))
    with torch.no_grad():
        expected = network(*inputs.values())
    captured = capture(network, inputs)
    rewritten, steps = apply_rewrites(captured, REWRITES, [tuple(inputs.values())])
    return Case(network, inputs, expected, captured, rewritten, steps)


def _calibrate(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Let every batch norm see the statistics of its own input, so that signals neither vanish nor explode.

    Without it, and with scales of both signs, rounding alone moves the eager alpha by 2e-4 (against float64).
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.abs_().mul_(0.5).add_(0.25)
        norm.register_forward_pre_hook(_measure)
    with torch.no_grad():
        network(*inputs)
    for norm in norms:
        norm._forward_pre_hooks.clear()


def _measure(norm: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(arguments[0].mean((0, 2, 3)))
    norm.running_var.copy_(arguments[0].var((0, 2, 3), correction=0) + 0.3)


def _named(specs: tuple[NetworkSpec, ...]) -> list[object]:
    return [pytest.param(spec, id=spec.name) for spec in specs]


@pytest.mark.parametrize("spec", _named(ALL))
def test_capture_of_a_network_is_bit_identical(spec: NetworkSpec, case_of: Callable[[NetworkSpec], Case]) -> None:
    case = case_of(spec)

    assert torch.equal(run_all(case.captured, [case.probe])[0], case.expected)


@pytest.mark.parametrize("spec", _named(ALL))
def test_network_keeps_its_alpha_under_all_rewrites(spec: NetworkSpec, case_of: Callable[[NetworkSpec], Case]) -> None:
    case = case_of(spec)

    alpha = run_all(case.rewritten, [case.probe])[0]

    assert float(case.expected.std()) > 0.01, "a flat alpha would hide mistakes"
    torch.testing.assert_close(alpha, case.expected, rtol=0, atol=1e-4)
    assert case.steps[-1].total_error == float((alpha - run_all(case.captured, [case.probe])[0]).abs().max())


@pytest.mark.parametrize("spec", _named(ALL))
def test_rewritten_network_holds_only_operators_of_phones(
    spec: NetworkSpec, case_of: Callable[[NetworkSpec], Case]
) -> None:
    targets = [node.target for node in case_of(spec).rewritten.graph.nodes]

    assert [target for target in targets if target in GONE] == []
    assert [target for target in targets if target in TRANSPOSE_MAKERS] == []


@pytest.mark.parametrize("spec", _named(ALL))
def test_all_rewrites_twice_change_nothing_the_second_time(
    spec: NetworkSpec, case_of: Callable[[NetworkSpec], Case]
) -> None:
    case = case_of(spec)

    again, steps = apply_rewrites(case.rewritten, REWRITES, [case.probe])

    assert [step.changes for step in steps] == [0] * len(REWRITES)
    assert again.code == case.rewritten.code


@pytest.mark.parametrize("spec", _named(ALL))
def test_shorter_rows_twice_change_nothing_the_second_time(
    spec: NetworkSpec, case_of: Callable[[NetworkSpec], Case]
) -> None:
    case = case_of(spec)

    for row in SHORTER_ROWS:
        rewritten, _ = apply_rewrites(case.captured, row, [case.probe])
        again, steps = apply_rewrites(rewritten, row, [case.probe])

        torch.testing.assert_close(run_all(rewritten, [case.probe])[0], case.expected, rtol=0, atol=1e-4)
        assert [step.name for step in steps if step.changes] == []
        assert again.code == rewritten.code


@pytest.mark.parametrize("spec", _named(ALL))
def test_every_operator_of_a_rewritten_network_knows_its_module(
    spec: NetworkSpec, case_of: Callable[[NetworkSpec], Case]
) -> None:
    nodes = [node for node in case_of(spec).rewritten.graph.nodes if node.op == "call_function"]

    assert [node.name for node in nodes if not node.meta.get("nn_module_stack")] == []
