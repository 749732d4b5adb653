"""Find the fewest layers that must stay float for a network to hold its quality budget in int8.

Layers are ranked by what each does to the matte alone; the shortest head of the ranking that holds the budget is found
by bisection; then every layer of it that can go back to int8 does, the most costly first. Bounded: a file for each
layer and block, about log2(layers) for the bisection, and at most ``_MOST_TRIES`` on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.quantization.budget import Budget
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.measure_sensitivity import (
    BlockSensitivity,
    Sensitivity,
    measure_blocks,
    measure_layers,
)
from mobile_matting_export.quantization.score import Score

_MOST_TRIES = 40


@dataclass(frozen=True)
class Point:
    """A plan that was tried on all held-out frames: how many layers it keeps in float, and what it scored."""

    keep_float: frozenset[str]
    score: Score


@dataclass(frozen=True)
class Found:
    """The plan, what it scored, all plans on the way, and the rankings; empty where no search was needed."""

    keep_float: frozenset[str]
    score: Score
    points: tuple[Point, ...]
    layers: tuple[Sensitivity, ...] = ()
    blocks: tuple[BlockSensitivity, ...] = ()


Accept = Callable[[frozenset[str]], bool]
"""Whether the files of a plan that holds the budget may be shipped: they are verified afterwards, on other pictures."""


def search_budget(
    judge: PlanJudge, budget: Budget, floats: frozenset[str], accept: Accept, announce: Announce
) -> Found | None:
    """The cheapest plan found that holds the budget with its margins and is accepted; None where none is.

    Args:
        judge: makes and scores plans.
        budget: what the mattes may differ.
        floats: layers that stay float in any case.
        accept: asked of plans that hold the budget.
        announce: called as each step starts.
    """
    points: dict[frozenset[str], Point] = {}

    def holds(keep_float: frozenset[str]) -> bool:
        score = judge.score(keep_float)
        if score is None:
            return False
        points[keep_float] = Point(keep_float, score)
        return budget.strain(score) <= 1 and accept(keep_float)

    announce(Part(f"int8: all layers{f' but the {len(floats)} that always stay float' if floats else ''}"))
    if holds(floats):
        return Found(floats, points[floats].score, tuple(points.values()))
    ranked = measure_layers(judge, floats, announce)
    blocks = measure_blocks(judge, floats, announce)
    order = [one.layer for one in ranked]
    announce(Part(f"int8: bisecting the {len(order)} layers by what they do to the matte"))
    head = _shortest_head(order, floats, holds)
    if head is None:
        return None
    announce(Part(f"int8: the budget holds with {len(head)} of them in float; giving back what is not needed"))
    kept = _give_back(head, floats, holds)
    return Found(kept, points[kept].score, tuple(points.values()), ranked, blocks)


def _shortest_head(
    order: Sequence[QuantizableLayer], floats: frozenset[str], holds: Callable[[frozenset[str]], bool]
) -> list[QuantizableLayer] | None:
    """The shortest head of the ranking that holds, as far as bisection sees: errors do not fall strictly."""
    too_few, enough = 0, len(order)
    if not holds(_plan(order, floats)):
        return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if holds(_plan(order[:middle], floats)):
            enough = middle
        else:
            too_few = middle
    return list(order[:enough])


def _give_back(
    head: Sequence[QuantizableLayer], floats: frozenset[str], holds: Callable[[frozenset[str]], bool]
) -> frozenset[str]:
    """Return layers to int8 while the budget holds, those first that cost most in float."""
    kept = {layer.name for layer in head}
    for layer in sorted(head, key=lambda one: (-cost_in_float(one), one.name))[:_MOST_TRIES]:
        if holds(floats | frozenset(kept - {layer.name})):
            kept.discard(layer.name)
    return floats | frozenset(kept)


def _plan(layers: Sequence[QuantizableLayer], floats: frozenset[str]) -> frozenset[str]:
    return floats | frozenset(layer.name for layer in layers)


def cost_in_float(layer: QuantizableLayer) -> int:
    """A number that orders layers by what they cost in float: multiply-accumulates, and memory for those without."""
    return layer.macs + 4 * layer.elements + layer.weight_bytes
