from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.surgery import insert_op, replace
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite, apply_rewrites, run_all

aten = torch.ops.aten

PROBES = [(torch.full((1, 3, 5, 7), value),) for value in (0.25, 1.0)]


@pytest.fixture
def graph() -> fx.GraphModule:
    class Doubling(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 2

    return capture(nn.Sequential(Doubling()), {"image": PROBES[0][0]})


class Half(nn.Module):
    """Returns alpha and a state of large numbers."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image * 0.5, image * 64


def times(factor: float) -> Callable[[fx.GraphModule], Outcome]:
    """A rewrite that multiplies the result."""

    def apply(graph_module: fx.GraphModule) -> Outcome:
        (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
        result = output.args[0]
        output.args = (insert_op(graph_module, output, aten.mul.Tensor, result, factor, like=result),)
        return Outcome(1, ("one place refused",))

    return apply


def shrink(graph_module: fx.GraphModule) -> Outcome:
    """A rewrite that returns one channel of three."""
    (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
    result = output.args[0]
    output.args = (insert_op(graph_module, output, aten.slice.Tensor, result, 1, 0, 1, like=result),)
    return Outcome(1)


def nothing(graph_module: fx.GraphModule) -> Outcome:
    return Outcome(0)


def crash(graph_module: fx.GraphModule) -> Outcome:
    raise KeyError("weight")


def crash_when_run(graph_module: fx.GraphModule) -> Outcome:
    (mul,) = (node for node in graph_module.graph.nodes if node.target is aten.mul.Tensor)
    mul.args = (mul.args[0], "two")
    return Outcome(1)


def test_ledger_has_the_error_of_each_step_and_the_sum(graph: fx.GraphModule) -> None:
    rewrites = [
        Rewrite("double", "", times(2.0), exact=False),
        Rewrite("nothing", "", nothing),
        Rewrite("halve", "", times(0.5), exact=False),
    ]

    rewritten, steps = apply_rewrites(graph, rewrites, PROBES)

    assert [(step.name, step.exact, step.changes) for step in steps] == [
        ("double", False, 1),
        ("nothing", True, 0),
        ("halve", False, 1),
    ]
    assert [step.max_abs_error for step in steps] == [2.0, 0.0, 2.0]  # of the second probe, which doubles to 2
    assert [step.total_error for step in steps] == [2.0, 2.0, 0.0]
    assert [step.refusals for step in steps] == [("one place refused",), (), ("one place refused",)]
    assert torch.equal(run_all(rewritten, PROBES)[1], PROBES[1][0] * 2)


def test_captured_graph_is_not_changed(graph: fx.GraphModule) -> None:
    before = graph.code

    apply_rewrites(graph, [Rewrite("double", "", times(2.0), exact=False)], PROBES)

    assert graph.code == before


def test_no_rewrites_give_an_empty_ledger(graph: fx.GraphModule) -> None:
    rewritten, steps = apply_rewrites(graph, [], PROBES)

    assert steps == ()
    assert rewritten.code == graph.code


@pytest.mark.parametrize("apply", [times(1.01), times(float("nan")), times(float("inf")), shrink])
def test_rewrite_that_lies_about_being_exact_is_named(
    graph: fx.GraphModule, apply: Callable[[fx.GraphModule], Outcome]
) -> None:
    with pytest.raises(ConversionError, match="rewrite liar claims to be exact but changed the alpha by"):
        apply_rewrites(graph, [Rewrite("nothing", "", nothing), Rewrite("liar", "", apply)], PROBES)


def test_broken_number_on_a_later_probe_only_is_noticed(graph: fx.GraphModule) -> None:
    def logarithm(graph_module: fx.GraphModule) -> Outcome:
        (mul,) = (node for node in graph_module.graph.nodes if node.target is aten.mul.Tensor)
        replaced = insert_op(graph_module, mul, aten.mul.Tensor, mul.args[0], 2.0, like=mul)
        replace(graph_module, mul, replaced)
        (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
        shifted = insert_op(graph_module, output, aten.sub.Tensor, replaced, 2.0, like=replaced)
        zero_or_nan = insert_op(graph_module, output, aten.div.Tensor, shifted, shifted, like=replaced)
        one_less = insert_op(graph_module, output, aten.sub.Tensor, zero_or_nan, 1.0, like=replaced)
        output.args = (insert_op(graph_module, output, aten.add.Tensor, replaced, one_less, like=replaced),)
        return Outcome(1)

    with pytest.raises(ConversionError, match="rewrite liar claims to be exact but changed the alpha by nan"):
        apply_rewrites(graph, [Rewrite("liar", "", logarithm)], PROBES)


def test_error_up_to_the_claim_is_allowed(graph: fx.GraphModule) -> None:
    _, (step,) = apply_rewrites(graph, [Rewrite("near", "", times(1.0001), max_error=1e-3)], PROBES)

    assert 0 < step.max_abs_error <= 1e-3


@pytest.mark.parametrize(("apply", "reason"), [(crash, "KeyError: 'weight'"), (crash_when_run, "")])
def test_crash_names_the_rewrite_and_those_before_it(
    graph: fx.GraphModule, apply: Callable[[fx.GraphModule], Outcome], reason: str
) -> None:
    rewrites = [Rewrite("first", "", nothing), Rewrite("second", "", nothing), Rewrite("broken", "", apply)]

    with pytest.raises(ConversionError) as caught:
        apply_rewrites(graph, rewrites, PROBES)

    assert str(caught.value).startswith("rewrite broken failed (")
    assert reason in str(caught.value)
    assert "rewrites done before it: first, second. This is a defect of mmexport" in str(caught.value)


def test_refusal_of_a_whole_network_is_passed_on_unchanged(graph: fx.GraphModule) -> None:
    def refuse(graph_module: fx.GraphModule) -> Any:
        raise ConversionError("this network cannot be rewritten")

    with pytest.raises(ConversionError, match=r"^this network cannot be rewritten$"):
        apply_rewrites(graph, [Rewrite("refusing", "", refuse)], PROBES)


@pytest.mark.parametrize(("factor", "error"), [(2.0, 1.0), (1 + 2**-15, 2**-15)])
def test_every_result_is_measured_states_by_their_magnitude(factor: float, error: float) -> None:
    def scale_second(graph_module: fx.GraphModule) -> Outcome:
        (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
        alpha, state = output.args[0]  # type: ignore[misc]
        output.args = ((alpha, insert_op(graph_module, output, aten.mul.Tensor, state, factor, like=state)),)
        return Outcome(1)

    captured = capture(Half(), {"image": PROBES[0][0]})
    rewrite = Rewrite("scale", "", scale_second, exact=False)

    _, (step,) = apply_rewrites(captured, [rewrite], [(torch.ones_like(PROBES[0][0]),)])

    assert step.max_abs_error == step.total_error == pytest.approx(error, rel=1e-3)


def test_a_result_that_is_lost_is_noticed() -> None:
    def lose_second(graph_module: fx.GraphModule) -> Outcome:
        (output,) = (node for node in graph_module.graph.nodes if node.op == "output")
        output.args = (output.args[0][0],)  # type: ignore[index]
        return Outcome(1)

    captured = capture(Half(), {"image": PROBES[0][0]})
    with pytest.raises(ConversionError, match="rewrite liar claims to be exact but changed"):
        apply_rewrites(captured, [Rewrite("liar", "", lose_second)], PROBES)
