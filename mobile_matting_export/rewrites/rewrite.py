"""What a rewrite is, how a list of them is run, and the ledger of what each did to the numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import tidy


@dataclass(frozen=True)
class Decision:
    """A place where two forms compute the same, and which was taken, by their counted costs in ``unit``."""

    place: str
    costs: tuple[tuple[str, float], ...]
    unit: str
    taken: str


@dataclass(frozen=True)
class Outcome:
    """What one rewrite did to one graph: places changed, a sentence per place refused, and what was weighed."""

    changes: int
    refusals: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Rewrite:
    """A function on a graph, with its claim.

    ``apply`` edits the graph in place through ``graph.surgery``. ``max_error`` is what an exact
    rewrite may change any result by: float32 rounding, at least ten times what was measured on the registry's networks.
    ``exact=False`` marks a bounded approximation.
    """

    name: str
    why: str
    apply: Callable[[fx.GraphModule], Outcome]
    exact: bool = True
    max_error: float = 1e-4


@dataclass(frozen=True)
class Step:
    """A line of the ledger: errors are maxima over the probe images, in units of alpha.

    Other results than alpha, the new values of states, count in units of their largest magnitude where that is above 1.
    ``max_abs_error`` is against the graph before this step; ``total_error`` against the captured
    network, so the first step with a large one is where a matte broke.
    """

    name: str
    exact: bool
    changes: int
    max_abs_error: float
    total_error: float
    refusals: tuple[str, ...] = field(default=(), compare=False)
    decisions: tuple[Decision, ...] = field(default=(), compare=False)


Inputs = Sequence[tuple[torch.Tensor, ...]]


def apply_rewrites(
    graph_module: fx.GraphModule, rewrites: Sequence[Rewrite], probes: Inputs
) -> tuple[fx.GraphModule, tuple[Step, ...]]:
    """Run the rewrites in order on a copy of the graph, measuring each on ``probes``.

    Args:
        graph_module: a captured graph (unchanged by this call).
        rewrites: in the order of the target's row.
        probes: positional inputs of the graph, one tuple per probe image.

    Raises:
        ConversionError: a rewrite failed, or one that claims to be exact moved the alpha.
    """
    current = copy.deepcopy(graph_module)
    original = previous = run_all(current, probes)
    steps: list[Step] = []
    for rewrite in rewrites:
        try:
            outcome = rewrite.apply(current)
            tidy(current)
            results = run_all(current, probes) if outcome.changes else previous
        except ConversionError:
            raise
        except Exception as error:
            done = ", ".join(step.name for step in steps) or "none"
            raise ConversionError(
                f"rewrite {rewrite.name} failed ({type(error).__name__}: {error}); rewrites done before it: {done}. "
                "This is a defect of mmexport: please report it with the network's file."
            ) from error
        step = Step(
            rewrite.name,
            rewrite.exact,
            outcome.changes,
            _largest_difference(previous, results, len(probes)),
            _largest_difference(original, results, len(probes)),
            outcome.refusals,
            outcome.decisions,
        )
        if rewrite.exact and not step.max_abs_error <= rewrite.max_error:
            raise ConversionError(
                f"rewrite {rewrite.name} claims to be exact but changed the alpha by {step.max_abs_error:.2g} "
                f"(allowed {rewrite.max_error:.2g}). This is a defect of mmexport: please report it."
            )
        steps.append(step)
        previous = results
    return current, tuple(steps)


@dataclass(frozen=True)
class Form:
    """Another form of an operator: ``name`` as decisions call it, and what ``spell_where_cheaper`` asks and calls.

    ``why_not`` says why a node cannot have it, as the end of a sentence; ``decide`` weighs it; ``spell`` puts it there.
    """

    name: str
    why_not: Callable[[fx.GraphModule, fx.Node], str | None]
    decide: Callable[[fx.Node], Decision]
    spell: Callable[[fx.GraphModule, fx.Node], None]


def spell_where_cheaper(graph_module: fx.GraphModule, nodes: Sequence[fx.Node], form: Form, stays: str) -> Outcome:
    """Give those of ``nodes`` the form that can have it and are counted cheaper so; ``stays`` says what others do."""
    changes, refusals, decisions = 0, [], []
    for node in nodes:
        obstacle = form.why_not(graph_module, node)
        if obstacle is None:
            decisions.append(decision := form.decide(node))
            obstacle = None if decision.taken == form.name else "it is counted cheaper than its other form"
        if obstacle is not None:
            refusals.append(f"{describe(node)}: {stays}, {obstacle}")
            continue
        form.spell(graph_module, node)
        changes += 1
    return Outcome(changes, tuple(refusals), tuple(decisions))


def run_all(graph_module: fx.GraphModule, probes: Inputs) -> list[torch.Tensor]:
    """The graph's results for every probe, one behind the other; alpha is the first of each probe."""
    results: list[torch.Tensor] = []
    with torch.no_grad():
        for probe in probes:
            result = graph_module(*probe)
            results += result if isinstance(result, (tuple, list)) else [result]
    return results


def _largest_difference(left: list[torch.Tensor], right: list[torch.Tensor], probes: int) -> float:
    """The maximum over all probes, NaN when any number is; ``left`` gives the magnitudes of states."""
    if [a.shape for a in left] != [b.shape for b in right]:
        return float("inf")
    alphas = range(0, len(left), len(left) // max(probes, 1) or 1)
    differences = []
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        difference = (a - b).abs().max()
        differences.append(difference if index in alphas else difference / a.abs().max().clamp(min=1))
    return float(torch.stack(differences).max()) if differences else 0.0
