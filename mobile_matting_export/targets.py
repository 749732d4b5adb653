"""The table of targets: one row says runtime, precisions, rewrites in order, and limits."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mobile_matting_export.choices import (
    NCNN_CPU_CHOICES,
    NCNN_VULKAN_CHOICES,
    TFLITE_CPU_CHOICES,
    TFLITE_GPU_CHOICES,
    Choice,
)
from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import Format
from mobile_matting_export.formats.ncnn import NCNN
from mobile_matting_export.formats.ncnn.avoid_winograd import avoid_winograd, describe_avoided
from mobile_matting_export.formats.onnx import ONNX
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.rewrites.absorb_channel_shuffle import ABSORB_CHANNEL_SHUFFLE
from mobile_matting_export.rewrites.box_filter_to_depthwise import BOX_FILTER_TO_DEPTHWISE
from mobile_matting_export.rewrites.cascade_means import CASCADE_MEANS
from mobile_matting_export.rewrites.commute_pointwise import COMMUTE_POINTWISE
from mobile_matting_export.rewrites.compute_columns_together import COMPUTE_COLUMNS_TOGETHER
from mobile_matting_export.rewrites.convolve_phases import CONVOLVE_PHASES
from mobile_matting_export.rewrites.deconv_to_depth_to_space import DECONV_TO_DEPTH_TO_SPACE
from mobile_matting_export.rewrites.deconv_to_pixel_shuffle import DECONV_TO_PIXEL_SHUFFLE
from mobile_matting_export.rewrites.eliminate_dead_channels import ELIMINATE_DEAD_CHANNELS
from mobile_matting_export.rewrites.expand_feathering import EXPAND_FEATHERING
from mobile_matting_export.rewrites.fold_batchnorm import FOLD_BATCHNORM
from mobile_matting_export.rewrites.fold_batchnorm_forward import FOLD_BATCHNORM_FORWARD
from mobile_matting_export.rewrites.fold_normalization import FOLD_NORMALIZATION
from mobile_matting_export.rewrites.mask_instance_norm import MASK_INSTANCE_NORM
from mobile_matting_export.rewrites.merge_linear_convs import MERGE_LINEAR_CONVS
from mobile_matting_export.rewrites.merge_pad import MERGE_PAD
from mobile_matting_export.rewrites.move_relu_past_concat import MOVE_RELU_PAST_CONCAT
from mobile_matting_export.rewrites.pin_upsample import PIN_UPSAMPLE
from mobile_matting_export.rewrites.remove_no_ops import REMOVE_NO_OPS
from mobile_matting_export.rewrites.rewrite import Rewrite
from mobile_matting_export.rewrites.round_up_channels import ROUND_UP_CHANNELS
from mobile_matting_export.rewrites.scale_instance_norm import SCALE_INSTANCE_NORM
from mobile_matting_export.rewrites.simplify_prelu import SIMPLIFY_PRELU
from mobile_matting_export.rewrites.softmax2_to_sigmoid import SOFTMAX2_TO_SIGMOID
from mobile_matting_export.rewrites.spell_batchnorm_as_depthwise import SPELL_BATCHNORM_AS_DEPTHWISE
from mobile_matting_export.rewrites.spell_channel_max import SPELL_CHANNEL_MAX
from mobile_matting_export.rewrites.spell_channel_shuffle import SPELL_CHANNEL_SHUFFLE
from mobile_matting_export.rewrites.spell_clamp import SPELL_CLAMP
from mobile_matting_export.rewrites.spell_instance_norm import SPELL_INSTANCE_NORM
from mobile_matting_export.rewrites.spell_legacy_bilinear import SPELL_LEGACY_BILINEAR
from mobile_matting_export.rewrites.spell_replicate_pad import SPELL_REPLICATE_PAD
from mobile_matting_export.rewrites.spell_slice_writes import SPELL_SLICE_WRITES
from mobile_matting_export.rewrites.split_conv_over_concat import (
    SPLIT_ANY_CONV_OVER_CONCAT,
    SPLIT_CONV_OVER_CONCAT,
)
from mobile_matting_export.rewrites.squeeze_excite_to_conv import SQUEEZE_EXCITE_TO_CONV
from mobile_matting_export.rewrites.zero_small_weights import zero_small_weights


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
    the accelerator's float32 mode, for networks whose alpha its fp16 arithmetic moves too far. ``finish`` changes
    the files in place after lowering, for this row's processor; ``notes`` are sentences for the manifest about
    what it did to them. ``choices`` are what ``--autotune`` decides.
    """

    name: str
    runtime: str
    accelerator: str
    format: Format
    rewrites: tuple[Rewrite, ...]
    limits: Mapping[str, Limits]
    refusals: Mapping[str, str]
    cautious: str | None = None
    finish: Callable[[tuple[Path, ...]], None] | None = None
    choices: tuple[Choice, ...] = ()
    notes: Callable[[tuple[Path, ...]], tuple[str, ...]] | None = None

    def with_form(self, choice: Choice, form: str) -> Target:
        """The row with another form of a choice in the place of its own."""
        own, wanted = dict(choice.forms)[choice.own], dict(choice.forms)[form]
        place = self.rewrites.index(own[0])
        return replace(self, rewrites=(*self.rewrites[:place], *wanted, *self.rewrites[place + len(own) :]))

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
# weights of 8 bits: at most 0.48 (single pixels of segmatting) and 2.1e-3 (ldn_fb) on 20 photographs
W8 = Limits(max_abs=0.6, mad=5e-3)
# single pixels of an edge may move far (0.52 in segmatting; MAD 8.4e-3 in ldn_fb, on the bundled pictures); how far
# edges move as a whole the quality budget decides
INT8 = Limits(max_abs=0.8, mad=2e-2)

# Order matters: no-ops first, since matchers look at direct neighbours; batch norm before anything that moves
# convolutions (into what is before, else into what is behind; what is left becomes a convolution); softmax
# before channel maxima, which read its two parts, and before feathering, which looks for 1 - f; all before
# convolutions move, since they match them at their old places; dead channels when zeros show and nothing is
# left that the analysis does not know (so channel shuffles first), before moving and merging, which count
# costs; sizes when no resize will be moved any more.
_FIRST = (
    REMOVE_NO_OPS,
    SPELL_SLICE_WRITES,
    FOLD_BATCHNORM,
    FOLD_BATCHNORM_FORWARD,
    SPELL_BATCHNORM_AS_DEPTHWISE,
    SQUEEZE_EXCITE_TO_CONV,
    SOFTMAX2_TO_SIGMOID,
    SPELL_CHANNEL_MAX,
    EXPAND_FEATHERING,
    FOLD_NORMALIZATION,
    ABSORB_CHANNEL_SHUFFLE,
    SPELL_CHANNEL_SHUFFLE,  # before dead channels, which stop at its views; ncnn and ONNX do not take all spellings
)
_SHRINKING = (
    ELIMINATE_DEAD_CHANNELS,
    SIMPLIFY_PRELU,  # what is left may be all zero
    COMMUTE_POINTWISE,
    PIN_UPSAMPLE,
)
# a pad may stand between two convolutions that then merge; both look at neighbours that moving made; a product of
# convolutions with groups may read fewer channels than its parts did
_LAST = (MERGE_PAD, MERGE_LINEAR_CONVS, ELIMINATE_DEAD_CHANNELS)
# ReLUs when every convolution is there that may take them, and before convolutions merge, which those with one do not;
# shuffle_seg_skipnet, the one network that has them: 0.99 of the time in XNNPACK (interval 0.98 to 1.00) and in ncnn
_COMMON = (*_FIRST, *_SHRINKING, MOVE_RELU_PAST_CONCAT, *_LAST)
# scaled while they are whole, then half norms in one piece, then what is left of them
_NORMS = (SCALE_INSTANCE_NORM, MASK_INSTANCE_NORM, SPELL_INSTANCE_NORM)
# TensorFlow's own operators when the other rewrites, which do not know them, have moved past them, and before pads
# and linear convolutions merge, with what transposed convolutions become, too
_NATIVE = (SPELL_LEGACY_BILINEAR, DECONV_TO_DEPTH_TO_SPACE)
# TFLite has no instance norm, and pads before it pools: a box filter that becomes a convolution may read a pad; a
# replicating pad last, since a legacy bilinear resize is told by one
_TFLITE = (
    *(*_FIRST, *_SHRINKING, BOX_FILTER_TO_DEPTHWISE, MOVE_RELU_PAST_CONCAT),
    *(*_NATIVE, *_LAST, *_NORMS, SPELL_CLAMP, SPELL_REPLICATE_PAD),
)
# CPUs compute outputs in vectors, GPUs do not; last, when convolutions have the channels that they keep
_TFLITE_CPU = (*_TFLITE, SPLIT_CONV_OVER_CONCAT, COMPUTE_COLUMNS_TOGETHER)
# a part of a split convolution may read one upsampled map, and move; phases behind what moves, merges and drops
# channels, which does not know pixel shuffles (trained portraitnet_video: 0.83 of the time with the map that whole
# vectors leave as it is); whole vectors when no channel comes or goes any more; other transposed convolutions last,
# since whole vectors stop at pixel shuffles
_NCNN_CPU = (
    *(*_COMMON, SPLIT_ANY_CONV_OVER_CONCAT, COMMUTE_POINTWISE),
    *(CONVOLVE_PHASES, ROUND_UP_CHANNELS, DECONV_TO_PIXEL_SHUFFLE),
)
# half precision cannot hold a sum over a whole map; last, when every mean is there
_TFLITE_GPU = (*_TFLITE, CASCADE_MEANS)

_INT8_ON_GPU = "int8 is for CPUs: GPUs compute these networks in fp16, so int8 would only lose quality there"
_W8_ON_TFLITE_GPU = "the GPU delegates refuse weights with a scale a channel (DEQUANTIZE version 5): use fp16"
_W8_ON_VULKAN = "its weights become fp16 on the way to the GPU: only the file would be smaller, and the matte worse"
_INTERCHANGE = "onnx is for interchange: its consumers choose their own precision, so it is written in fp32"

TARGETS: tuple[Target, ...] = (
    Target(
        "tflite-cpu",
        "LiteRT (XNNPACK)",
        "cpu",
        TFLITE,
        _TFLITE_CPU,
        {"fp32": FP32, "fp16": FP16, "int8": INT8, "w8": W8},
        {},
        choices=TFLITE_CPU_CHOICES,
    ),
    Target(
        "tflite-gpu",
        "LiteRT GPU delegate / ML Drift",
        "gpu",
        TFLITE,
        _TFLITE_GPU,
        {"fp16": FP16, "fp32": FP32},
        {"int8": _INT8_ON_GPU, "w8": _W8_ON_TFLITE_GPU},
        choices=TFLITE_GPU_CHOICES,
    ),
    Target(
        "ncnn-cpu",
        "ncnn",
        "cpu",
        NCNN,
        _NCNN_CPU,
        {"fp16": FP16, "fp32": FP32, "int8": INT8, "w8": W8},
        {},
        finish=avoid_winograd,
        notes=describe_avoided,
        choices=NCNN_CPU_CHOICES,
    ),
    Target(
        "ncnn-vulkan",
        "ncnn on Vulkan",
        "gpu",
        NCNN,
        _COMMON,
        {"fp16": FP16, "fp32": FP32},
        {"int8": _INT8_ON_GPU, "w8": _W8_ON_VULKAN},
        cautious="gpu-fp32",
        choices=NCNN_VULKAN_CHOICES,
    ),
    Target(
        "onnx",
        "onnxruntime",
        "cpu",
        ONNX,
        _COMMON,
        {"fp32": FP32},
        {"fp16": _INTERCHANGE, "int8": _INTERCHANGE, "w8": _INTERCHANGE},
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


def slimmed(target: Target, tolerance: float | None) -> Target:
    """The row with weights below ``tolerance`` set to zero before dead channels are looked for; None leaves it."""
    if tolerance is None:
        return target
    place = target.rewrites.index(ELIMINATE_DEAD_CHANNELS)
    slim = (*target.rewrites[:place], zero_small_weights(tolerance), *target.rewrites[place:])
    return replace(target, rewrites=slim)


def require_input(target: Target, wanted: str) -> None:
    """Refuse a way for the picture to enter (``--input``) that the target's format does not offer.

    Raises:
        UsageError: with the reason and the way out.
    """
    reason = target.format.input_refusals.get(wanted)
    if reason is not None:
        raise UsageError(f"target {target.name} does not take --input {wanted}: {reason}")


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
    reason = target.refusals.get(wanted, "there is no such precision")
    raise UsageError(f"target {target.name} does not take --precision {wanted}: {reason} (offered: {offered})")
