"""The table of targets: one row says runtime, precisions, rewrites in order, and limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import Format
from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.onnx import ONNX
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.rewrites.box_filter_to_depthwise import BOX_FILTER_TO_DEPTHWISE
from mobile_matting_export.rewrites.commute_pointwise import COMMUTE_POINTWISE
from mobile_matting_export.rewrites.eliminate_dead_channels import ELIMINATE_DEAD_CHANNELS
from mobile_matting_export.rewrites.expand_feathering import EXPAND_FEATHERING
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.merge_linear_convs import MERGE_LINEAR_CONVS
from mobile_matting_export.rewrites.merge_pad import MERGE_PAD
from mobile_matting_export.rewrites.pin_upsample import PIN_UPSAMPLE
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS
from mobile_matting_export.rewrites.rewrite import Rewrite
from mobile_matting_export.rewrites.softmax2_to_sigmoid import SOFTMAX2_TO_SIGMOID
from mobile_matting_export.rewrites.spell_instance_norm import SPELL_INSTANCE_NORM
from mobile_matting_export.rewrites.spell_slice_writes import SPELL_SLICE_WRITES
from mobile_matting_export.rewrites.squeeze_excite_to_conv import SQUEEZE_EXCITE_TO_CONV


@dataclass(frozen=True)
class Limits:
    """How far an artifact's alpha may be from the network's, over all verification images."""

    max_abs: float
    mad: float


@dataclass(frozen=True)
class Target:
    """One row: what ``mmexport convert --target NAME`` makes.

    ``limits`` maps each legal precision to its limits; the first precision is the default.
    ``refusals`` maps precisions users ask for to the reason they are not offered. ``cautious`` is
    the accelerator's float32 mode, for networks whose alpha its fp16 arithmetic moves too far.
    """

    name: str
    runtime: str
    accelerator: str
    format: Format
    rewrites: tuple[Rewrite, ...]
    limits: Mapping[str, Limits]
    refusals: Mapping[str, str]
    cautious: str | None = None

    def modes(self, precision: str) -> tuple[str, ...]:
        """Accelerator modes to verify a file of ``precision`` in, the wanted one first."""
        if self.cautious is None:
            return (self.accelerator,)
        return (self.cautious,) if precision == "fp32" else (self.accelerator, self.cautious)

    @property
    def default_precision(self) -> str:
        """The precision used without ``--precision``."""
        return next(iter(self.limits))


# float32 in another order of summation: 6e-5 at most on eight networks, 2.3e-4 on modnet with its instance norms
FP32 = Limits(max_abs=1e-3, mad=1e-4)
# weights rounded to 11 bits: single edge pixels move (0.027 on trained mmnet, 41 photographs), areas do not (8e-5)
FP16 = Limits(max_abs=0.1, mad=2e-3)

# Order matters: no-ops first, since matchers look at direct neighbours; batch norm before anything
# that moves convolutions; softmax before feathering, which looks for 1 - f; both before convolutions
# move, since they match them at their old places; dead channels when zeros show and nothing is left that
# the analysis does not know, before moving and merging, which count costs; sizes when no resize will be moved any more.
_FIRST = (
    REMOVE_NO_OPS,
    SPELL_SLICE_WRITES,
    FOLD_BATCHNORM,
    SQUEEZE_EXCITE_TO_CONV,
    SOFTMAX2_TO_SIGMOID,
    EXPAND_FEATHERING,
    ELIMINATE_DEAD_CHANNELS,
    COMMUTE_POINTWISE,
    PIN_UPSAMPLE,
)
# a pad may stand between two convolutions that then merge; both look at neighbours that moving made
_LAST = (MERGE_PAD, MERGE_LINEAR_CONVS)
_COMMON = (*_FIRST, *_LAST)
# TFLite has no instance norm, and pads before it pools: a box filter that becomes a convolution may read a pad
_TFLITE = (*_FIRST, BOX_FILTER_TO_DEPTHWISE, *_LAST, SPELL_INSTANCE_NORM)

_INT8_NOT_YET = "int8 that keeps the matte is not built yet: use fp16 or fp32"
_INT8_ON_GPU = "int8 is for CPUs: GPUs compute these networks in fp16, so int8 would only lose quality there"

TARGETS: tuple[Target, ...] = (
    Target(
        "tflite-cpu",
        "LiteRT (XNNPACK)",
        "cpu",
        TFLITE,
        _TFLITE,
        {"fp32": FP32, "fp16": FP16},
        {"int8": _INT8_NOT_YET},
    ),
    Target(
        "tflite-gpu",
        "LiteRT GPU delegate / ML Drift",
        "gpu",
        TFLITE,
        _TFLITE,
        {"fp16": FP16, "fp32": FP32},
        {"int8": _INT8_ON_GPU},
    ),
    Target("ncnn-cpu", "ncnn", "cpu", NCNN, _COMMON, {"fp16": FP16, "fp32": FP32}, {"int8": _INT8_NOT_YET}),
    Target(
        "ncnn-vulkan",
        "ncnn on Vulkan",
        "gpu",
        NCNN,
        _COMMON,
        {"fp16": FP16, "fp32": FP32},
        {"int8": _INT8_ON_GPU},
        cautious="gpu-fp32",
    ),
    Target(
        "onnx",
        "onnxruntime",
        "cpu",
        ONNX,
        _COMMON,
        {"fp32": FP32},
        {
            "fp16": "onnx is for interchange: its consumers choose their own precision, so it is written in fp32",
            "int8": "onnx is for interchange: its consumers choose their own precision, so it is written in fp32",
        },
    ),
)


def find_target(name: str) -> Target:
    """The row of that name.

    Raises:
        UsageError: unknown; names the nearest and all.
    """
    by_name = {target.name: target for target in TARGETS}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"unknown target {name!r}: {hint}Targets are {', '.join(by_name)}")


def choose_precision(target: Target, wanted: str | None) -> str:
    """``wanted`` where the target offers it, else its default when nothing is wanted.

    Raises:
        UsageError: a precision this target refuses, with the reason.
    """
    if wanted is None:
        return target.default_precision
    if wanted in target.limits:
        return wanted
    offered = ", ".join(target.limits)
    reason = target.refusals.get(wanted, f"it knows {offered}")
    raise UsageError(f"target {target.name} does not take --precision {wanted}: {reason} (offered: {offered})")
