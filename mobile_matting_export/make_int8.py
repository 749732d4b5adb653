"""Make the int8 file of a network for one target: ranges, equalized channels, and the layers that must stay float."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.calibration import Calibration
from mobile_matting_export.choose_int8_ways import choose_int8_ways
from mobile_matting_export.errors import ConversionError, QualityError, UsageError
from mobile_matting_export.int8_wish import Int8Wish
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.quantization.recipe import Recipe, find_layers
from mobile_matting_export.quantization.rounding import Rounding
from mobile_matting_export.quantization.score import Score
from mobile_matting_export.quantization.search_budget import Found, search_budget
from mobile_matting_export.quantization.tune_weights import Tuned, tune_by_steps, tune_for_minutes
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import Target
from mobile_matting_export.vary_int8 import Lower, Variant, Workshop, describe_variant, make_variants

if TYPE_CHECKING:
    from mobile_matting_export.formats.format import Int8

# of the multiply-accumulates: with less in int8 an fp16 file is as fast and nearer to the network
_LEAST_SHARE = 0.25
# of them: no other way to compute in int8 is tried
_GOOD_SHARE = 0.8


@dataclass(frozen=True)
class Int8File:
    """What was made. ``target`` is the row with its equalization and tuning, ``full_bytes`` the fp32 file's size.

    ``found`` is the plan; ``tuned`` says what tuning did, None where the weights are the network's own.
    """

    files: tuple[Path, ...]
    target: Target
    recipe: Recipe
    judge: PlanJudge
    found: Found
    full_bytes: int
    tuned: Tuned | None = None


Verify = Callable[[tuple[Path, ...]], bool]


def make_int8(
    network: LoadedNetwork,
    target: Target,
    wish: Int8Wish,
    calibration: Calibration,
    lower: Lower,
    verify: Verify,
    folder: Path,
    stem: str,
    cache: ResultCache | None,
    announce: Announce,
) -> Int8File:
    """Write the int8 files into ``folder``.

    All layers are made int8, with every kind of range and with channels equalized or not; the best of these is the
    start of the search, see ``quantization/search_budget.py``; where the wish says so its weights are tuned before,
    see ``quantization/tune_weights.py``. With a recipe nothing is searched.

    Args:
        network: with its weights.
        target: the row; its format makes int8.
        wish: budget or recipe.
        calibration: pictures for ranges, and others to judge by.
        lower: see ``Lower``.
        verify: whether files keep the limits on the verification pictures: no plan is taken that does not.
        folder: for the files.
        stem: of their names.
        cache: where statistics and judged plans are kept.
        announce: called as each step starts.

    Raises:
        UsageError: the recipe is of another network, target or size, or names layers that are not there; no way to
            compute in int8 offers the wanted type of image and alpha.
        ConversionError: the files cannot be made.
        QualityError: the budget cannot be held with a quarter of the arithmetic in int8; says what was reached.
    """
    tools = choose_int8_ways(target, wish.wanted_io, network.input)
    if not tools:
        raise ConversionError(f"{target.format.name} files are not made in int8")
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=folder) as scratch:

        def make_workshop(tool: Int8) -> Workshop:
            return Workshop(tool, calibration, lower, Path(scratch), cache, announce, wish.wanted_io)

        if wish.recipe is None:
            workshops = [make_workshop(tool) for tool in tools]
            variant, found = _search(target, wish, workshops, verify)
        else:
            if calibration.sha256 != wish.recipe.calibration:
                announce(
                    Part("warning: these are not the calibration pictures of the recipe: the file will not be the same")
                )
            workshop = make_workshop(_tool_of(wish.recipe, tools, target))
            ((variant,),) = make_variants(target, wish, workshop, wish.recipe.rounding)
            if wish.recipe.tune_steps:
                variant = workshop.tuned(variant, functools.partial(tune_by_steps, steps=wish.recipe.tune_steps))
            found = _replay(variant, wish, wish.recipe)
            _compare_with_recipe(variant, wish.recipe, announce)
        judge = variant.judge
        files = judge.write(found.keep_float, folder, stem)
        full = sum(file.stat().st_size for file in judge.files)
        recipe = Recipe(
            network.spec.name,
            target.name,
            network.size,
            variant.judge.tool.name,
            variant.method,
            variant.equalize,
            variant.corrected,
            tuple(sorted(found.keep_float)),
            calibration.sha256,
            variant.float_files,
            str(wish.budget),
            variant.tuned.steps if variant.tuned else 0,
            wish.wanted_io,
            variant.rounding,
        )
    return Int8File(files, variant.target, recipe, judge, found, full, variant.tuned)


def _search(target: Target, wish: Int8Wish, workshops: Sequence[Workshop], verify: Verify) -> tuple[Variant, Found]:
    """The plan with most of the multiply-accumulates in int8, over the format's ways to compute in int8.

    Others than the usual way are tried where its plan leaves much in float; so is another rounding of the weights.
    """
    best: tuple[float, Variant, Found] | None = None
    reached = []
    ways = [(workshop, rounding) for workshop in workshops for rounding in _roundings(workshop)]
    for workshop, rounding in ways:
        variant = _choose_variant(make_variants(target, wish, workshop, rounding), wish, workshop)
        if variant is None:
            continue
        accept = functools.partial(_is_verified, variant.judge, verify, workshop.announce)
        found = search_budget(variant.judge, wish.budget, variant.floats, accept, workshop.announce)
        share = 0.0 if found is None else _share_in_int8(variant, found.keep_float)
        reached.append(_describe_miss(variant, found, share))
        if found is not None and share >= _LEAST_SHARE and (best is None or share > best[0]):
            best = share, variant, found
        if share >= _GOOD_SHARE:
            break
        if (workshop, rounding) != ways[-1]:
            left = f"{100 * (1 - share):.0f} % of the multiply-accumulates stay float"
            more = "trying another way, and taking the one that leaves less"
            workshop.announce(Part(f"int8, {describe_variant(variant)}: {left}; {more}"))
    if not reached:
        raise ConversionError("no int8 file of this network can be made with all layers in int8; use --precision fp16")
    if best is None:
        raise QualityError(
            f"the quality budget {wish.budget} cannot be held in int8: {'; '.join(reached)}. Give a wider "
            "--quality-budget, more --calibration pictures, or use --precision fp16. No artifact is left at its "
            "output path."
        )
    return best[1], best[2]


def _is_verified(judge: PlanJudge, verify: Verify, announce: Announce, keep_float: frozenset[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix="mmexport-") as folder:
        kept = verify(judge.write(keep_float, Path(folder), "plan"))
    if not kept:
        held = f"with {len(keep_float)} layers in float the budget holds"
        announce(Part(f"int8: {held}, the limits on the verification pictures do not"))
    return kept


def _roundings(workshop: Workshop) -> tuple[Rounding, ...]:
    """To the nearest first: what stays float is then as it was.

    Feedback serves convolutions without groups, where ncnn has nearly all of its int8 arithmetic.
    """
    return ("nearest", "error_feedback") if workshop.tool.arithmetic == "convolutions" else ("nearest",)


def _describe_miss(variant: Variant, found: Found | None, share: float) -> str:
    all_int8 = variant.judge.score(variant.floats)
    assert all_int8 is not None  # it was the reason to choose the variant
    cost = (
        "no choice of layers in float holds it"
        if found is None
        else f"to hold it {len(found.keep_float)} of {len(variant.judge.layers)} layers with "
        f"{100 * (1 - share):.0f} % of the multiply-accumulates would have to stay float"
    )
    return f"with all layers in int8 ({variant.judge.tool.name}) the error is {describe_score(all_int8)}, and {cost}"


def _choose_variant(forms: Iterator[tuple[Variant, ...]], wish: Int8Wish, workshop: Workshop) -> Variant | None:
    """The variant that uses least of the budget with all layers in int8, tuned where that is wanted and helps.

    Tuning rounds weights itself: rounded by error feedback they are not tuned. Where one of the plain graph holds the
    budget the equalized graph is not made.
    """
    budget, announce = wish.budget, workshop.announce
    best: tuple[float, Variant] | None = None
    for variants in forms:
        for variant in variants:
            score = variant.judge.score(variant.floats)
            if score is None:
                continue
            strain = budget.strain(score)
            announce(Part(f"int8, {describe_variant(variant)}: {describe_score(score)}"))
            if best is None or strain < best[0]:
                best = strain, variant
        if best is not None and best[0] <= 1:
            break
    if best is None or wish.tune_minutes is None or best[1].rounding != "nearest":
        return None if best is None else best[1]
    tuned = workshop.tuned(best[1], functools.partial(tune_for_minutes, minutes=wish.tune_minutes))
    score = tuned.judge.score(tuned.floats)
    if score is not None and tuned.tuned is not None:
        announce(Part(f"int8 after {tuned.tuned.steps} steps of tuning: {describe_score(score)}"))
    return tuned if score is not None and budget.strain(score) < best[0] else best[1]


def _share_in_int8(variant: Variant, keep_float: frozenset[str]) -> float:
    layers = variant.judge.layers
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.name not in keep_float) / total if total else 1.0


def _replay(variant: Variant, wish: Int8Wish, recipe: Recipe) -> Found:
    keep = find_layers(recipe.keep_float, variant.judge.layers, "the recipe")
    score = variant.judge.score(keep)
    if score is None:
        raise ConversionError(
            "the converter cannot make the file of this recipe: keep the neighbours of its float layers in float, too"
        )
    if wish.budget.use(score) > 1:
        raise QualityError(
            f"the recipe's file misses the quality budget {wish.budget} on the held-out pictures: "
            f"{describe_score(score)}. Give the pictures that it was made with (--calibration), or another recipe, or "
            "give a wider --quality-budget. No artifact is left at its output path."
        )
    return Found(keep, score, ())


def _compare_with_recipe(variant: Variant, recipe: Recipe, announce: Announce) -> None:
    """Say that the network is not as it was when the recipe was made: the bytes will differ."""
    if variant.float_files != recipe.float_files:
        other = "the float file is not that of the recipe (weights, --input, --slim, versions or machine differ)"
        announce(Part(f"warning: {other}: the int8 file will not be the same"))


def _tool_of(recipe: Recipe, tools: Sequence[Int8], target: Target) -> Int8:
    for tool in tools:
        if tool.name == recipe.arithmetic:
            return tool
    known = ", ".join(tool.name for tool in tools)
    with_io = "" if recipe.io == "float" else f" with io {recipe.io!r}"
    raise UsageError(f"the recipe says arithmetic {recipe.arithmetic!r}; target {target.name}{with_io} has {known}")


def describe_score(score: Score) -> str:
    """The errors in a few words."""
    return (
        f"MAD {score.mad:.2g}, in the transition band {score.mad_band:.2g}, worst picture {score.psnr:.1f} dB, "
        f"largest {score.max_abs:.2g}"
    )
