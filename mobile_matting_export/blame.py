"""Say which step broke a matte that missed its limits: the capture, a rewrite, rounding, 8 bits, or the lowering."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import fx

from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.manifest import Lowered
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.parity import Case, Verdict, compare_graphs

_EIGHT_BITS = {
    "int8": (
        "in float, after all rewrites, PyTorch still makes the same matte. Give a narrower --quality-budget, use "
        "--precision fp16, or accept it with --max-error and --max-mad."
    ),
    "w8": (
        "in float, after all rewrites, PyTorch still makes the same matte. Use --precision fp16, or accept it with "
        "--max-error and --max-mad."
    ),
}


def blame(network: LoadedNetwork, lowered: Lowered, cases: Sequence[Case], verdict: Verdict) -> str:
    """A sentence that names the first step after which the matte was out of its limits."""
    target, precision, stats, limits = lowered.target, lowered.precision, verdict.stats, verdict.limits
    missed = (
        f"{network.spec.name} for {target.name} {precision} is not the same matte: max error {stats.max_abs:.3g} "
        f"(limit {limits.max_abs:.3g}), MAD {stats.mad:.3g} (limit {limits.mad:.3g}), worst on {stats.worst}. "
    ) + "".join(f"{state.name}: max error {state.max_abs:.3g}, MAD {state.mad:.3g}. " for state in stats.states)
    if not compare_graphs(lowered.captured, cases).within(limits):
        return f"{missed}First broken by the capture, before any rewrite. No artifact is left at its output path."
    if not compare_graphs(lowered.module, cases).within(limits):
        guilty = next(
            (step for step in lowered.ledger if step.total_error > limits.max_abs),
            max(lowered.ledger, key=lambda step: step.max_abs_error),
        )
        return f"{missed}First broken by rewrite {guilty.name}. No artifact is left at its output path."
    if precision == "fp16":
        rounded = compare_graphs(_rounded_to_half(lowered.module), cases)
        if not rounded.within(limits):
            return (
                f"{missed}First broken by rounding the weights to fp16: with rounded weights PyTorch itself errs by "
                f"{rounded.max_abs:.3g}, MAD {rounded.mad:.3g}. Use --precision fp32, or accept it with "
                "--max-error and --max-mad. No artifact is left at its output path."
            )
    if precision in _EIGHT_BITS:
        return f"{missed}First broken by 8 bits: {_EIGHT_BITS[precision]} No artifact is left at its output path."
    return (
        f"{missed}First broken by the lowering to {target.format.name}, after all rewrites. "
        "No artifact is left at its output path."
    )


def _rounded_to_half(module: fx.GraphModule) -> fx.GraphModule:
    rounded = copy.deepcopy(module)
    for tensor in rounded.buffers():
        if tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() > SMALL_WEIGHT:
            tensor.copy_(tensor.half().float())
    return rounded
