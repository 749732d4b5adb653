"""The ways to make a network int8: kinds of ranges, channels equalized or not, how weights are rounded, or tuned."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import fx

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.calibration import Calibration
from mobile_matting_export.errors import UsageError
from mobile_matting_export.fingerprint import digest
from mobile_matting_export.int8_wish import Int8Wish
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.quantization.observe_once import observe_once
from mobile_matting_export.quantization.ranges import Method
from mobile_matting_export.quantization.recipe import Recipe
from mobile_matting_export.quantization.round_by_error_feedback import round_by_error_feedback
from mobile_matting_export.quantization.rounding import Rounding
from mobile_matting_export.quantization.tune_weights import Tuned, Tuning
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.rewrites.equalize_channels import equalize_channels
from mobile_matting_export.targets import Target

if TYPE_CHECKING:
    from mobile_matting_export.formats.format import Int8

METHODS_TRIED: tuple[Method, ...] = ("percentile", "mse", "minmax")
"""Where the user names none: each costs a file and a run of the held-out pictures. With kl the band's error was neither
the least on ldn_fb nor on mmnet; on segmatting it was, where all four are far from any budget."""

STRENGTHS_TRIED = (0.0, 0.75, 1.0)
"""Of equalization, where no recipe says one; which is best differs by network."""

# frames that channels are equalized by: the float graph runs once for each
_EQUALIZED_BY = 16


@dataclass(frozen=True)
class Variant:
    """One way to choose ranges, biases corrected or not, on a graph equalized or not, rounded so or so, tuned or not.

    ``float_files`` is the sum of the fp32 files before they were tuned.
    """

    target: Target
    method: Method
    equalize: float
    corrected: bool
    judge: PlanJudge
    floats: frozenset[str]
    float_files: str
    rounding: Rounding
    tuned: Tuned | None = None


Lower = Callable[[Target, Path], tuple[tuple[Path, ...], fx.GraphModule]]
"""Writes the fp32 files of a row into a folder; returns them and the graph they were made of."""


@dataclass(frozen=True)
class Workshop:
    """What all variants are made with."""

    tool: Int8
    calibration: Calibration
    lower: Lower
    scratch: Path
    cache: ResultCache | None
    announce: Announce
    io: IoKind = "float"

    @functools.cached_property
    def frames(self) -> list[tuple[torch.Tensor, ...]]:
        """The ranging frames as positional inputs of the graph."""
        inputs = [case.inputs for case in self.calibration.ranging]
        return [tuple(torch.from_numpy(value) for value in frame.values()) for frame in inputs]

    def make(
        self,
        row: Target,
        methods: Sequence[Method],
        equalize: float,
        corrections: Sequence[bool],
        rounding: Rounding,
    ) -> tuple[Variant, ...]:
        """A variant of the row's graph for every kind of range, with and without corrected biases as asked."""
        tool, inputs = self.tool, [case.inputs for case in self.calibration.ranging]
        files, module = self.lower(row, Path(tempfile.mkdtemp(dir=self.scratch)))
        self.announce(Part(f"observing {len(inputs)} calibration frames"))
        histograms = observe_once(
            self.cache, files, f"{tool.name} {self.calibration.sha256}", functools.partial(tool.observe, files, inputs)
        )
        layers, floats = tool.list_layers(files, module), tool.always_float(files)
        found = []
        for method in methods if histograms else methods[:1]:  # where there is nothing to choose all are one
            ranges = {name: tool.choose(histogram, method) for name, histogram in histograms.items()}
            for corrected in corrections:
                shift = tool.correct_biases(files, ranges, inputs) if corrected and tool.correct_biases else {}
                state = digest(sums_of(files), self.calibration.sha256, tool.name, method, str(corrected), self.io)
                held_out = self.calibration.holdout
                judge = PlanJudge(row.format, tool, files, layers, ranges, shift, held_out, state, self.cache, self.io)
                found.append(Variant(row, method, equalize, corrected, judge, floats, sums_of(files), rounding))
        return tuple(found)

    def tuned(self, variant: Variant, tune: Callable[..., Tuning]) -> Variant:
        """The variant with tuned weights; ``tune`` is ``tune_by_steps`` or ``tune_for_minutes``, its length given."""
        tuning = tune(self.frames, method=variant.method, arithmetic=self.tool.arithmetic, announce=self.announce)
        row = replace(variant.target, rewrites=(*variant.target.rewrites, tuning.rewrite))
        (made,) = self.make(row, (variant.method,), variant.equalize, (variant.corrected,), variant.rounding)
        return replace(made, tuned=tuning.tuned, float_files=variant.float_files)


def sums_of(files: Sequence[Path]) -> str:
    """One sha256 for the contents of files, in order."""
    return digest(*(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))


def make_variants(
    target: Target, wish: Int8Wish, workshop: Workshop, rounding: Rounding
) -> Iterator[tuple[Variant, ...]]:
    """The variants of the plain graph, then those of the equalized one, each form made when it is asked for.

    A recipe says itself how weights are rounded.
    """
    if wish.recipe is not None:
        rounding = wish.recipe.rounding
        forms, methods, corrections = [wish.recipe.equalize], [wish.recipe.method], [wish.recipe.correct_biases]
    else:
        corrections = [False, True] if workshop.tool.correct_biases else [False]
        forms, methods = list(STRENGTHS_TRIED), [wish.method] if wish.method else list(METHODS_TRIED)
    for equalize in forms:
        row = target
        if equalize:
            workshop.announce(Part(f"giving channels like ranges, strength {equalize:g}"))
            by = equalize_channels(workshop.frames[:_EQUALIZED_BY], equalize)
            row = replace(target, rewrites=(*target.rewrites, by))
        if rounding == "error_feedback":
            workshop.announce(Part("rounding weights so that layers' outputs move least"))
            by = round_by_error_feedback(workshop.frames)
            row = replace(row, rewrites=(*row.rewrites, by))
        yield workshop.make(row, methods, equalize, corrections, rounding)


def require_fitting(recipe: Recipe, network: LoadedNetwork, target: Target) -> None:
    """Refuse a recipe of another network, target or size.

    Raises:
        UsageError: says which it is for.
    """
    for what, wanted, is_now in (
        ("network", recipe.network, network.spec.name),
        ("target", recipe.target, target.name),
        ("size", "x".join(map(str, recipe.size)), "x".join(map(str, network.size))),
    ):
        if wanted != is_now:
            raise UsageError(
                f"the recipe is for {what} {wanted}, this is {is_now}: give its own, or make another recipe"
            )


def describe_variant(variant: Variant) -> str:
    """The ways of a variant in a few words."""
    tool = variant.judge.tool.name
    ranges = f", {variant.method} ranges" if variant.judge.ranges else ""
    biases = ", biases corrected" if variant.corrected else ""
    equalized = f", channels equalized by {variant.equalize:g}" if variant.equalize else ""
    return f"{tool}{ranges}{biases}{equalized}{', rounded by error feedback' if variant.rounding != 'nearest' else ''}"
