"""The places of rows where other rewrites would do, too: what ``--autotune`` decides by timing.

A row's own form is what was faster on the networks and the processor that it was measured on; the rewrites say
which. Another network or processor may be faster with another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobile_matting_export.rewrites.commute_pointwise import COMMUTE_POINTWISE
from mobile_matting_export.rewrites.compute_columns_together import COMPUTE_COLUMNS_TOGETHER
from mobile_matting_export.rewrites.convolve_phases import CONVOLVE_PHASES
from mobile_matting_export.rewrites.deconv_to_depth_to_space import DECONV_TO_DEPTH_TO_SPACE
from mobile_matting_export.rewrites.deconv_to_pixel_shuffle import DECONV_TO_PIXEL_SHUFFLE
from mobile_matting_export.rewrites.mask_instance_norm import MASK_INSTANCE_NORM
from mobile_matting_export.rewrites.merge_linear_convs import MERGE_LINEAR_CONVS
from mobile_matting_export.rewrites.rewrite import Rewrite
from mobile_matting_export.rewrites.round_up_channels import ROUND_UP_CHANNELS, round_up_channels
from mobile_matting_export.rewrites.split_conv_over_concat import SPLIT_ANY_CONV_OVER_CONCAT, SPLIT_CONV_OVER_CONCAT


@dataclass(frozen=True)
class Choice:
    """One place of a row: form -> the rewrites that stand there, the row's own form first, which is not empty."""

    name: str
    forms: tuple[tuple[str, tuple[Rewrite, ...]], ...]

    @property
    def own(self) -> str:
        """The form that the row comes with."""
        return self.forms[0][0]

    @property
    def others(self) -> tuple[str, ...]:
        """The forms that ``--autotune`` tries."""
        return tuple(form for form, _ in self.forms[1:])


_MERGED = Choice("merge_linear_convs", (("merged", (MERGE_LINEAR_CONVS,)), ("apart", ())))
_MOVED = Choice("commute_pointwise", (("moved", (COMMUTE_POINTWISE,)), ("as written", ())))
_DECONV = Choice("deconv_to_depth_to_space", (("counted", (DECONV_TO_DEPTH_TO_SPACE,)), ("kept", ())))
TFLITE_CPU_CHOICES = (
    _DECONV,
    Choice("split_conv_over_concat", (("split", (SPLIT_CONV_OVER_CONCAT,)), ("joined", ()))),
    Choice("compute_columns_together", (("together", (COMPUTE_COLUMNS_TOGETHER,)), ("one by one", ()))),
    Choice("mask_instance_norm", (("masked", (MASK_INSTANCE_NORM,)), ("apart", ()))),
    *(_MERGED, _MOVED),
)
NCNN_CPU_CHOICES = (
    Choice("round_up_channels", (("to 8", (ROUND_UP_CHANNELS,)), ("to 4", (round_up_channels(4),)), ("not", ()))),
    Choice("split_conv_over_concat", (("split", (SPLIT_ANY_CONV_OVER_CONCAT,)), ("joined", ()))),
    Choice("convolve_phases", (("phases", (CONVOLVE_PHASES,)), ("pixels", ()))),
    Choice("deconv_to_pixel_shuffle", (("counted", (DECONV_TO_PIXEL_SHUFFLE,)), ("kept", ()))),
    *(_MERGED, _MOVED),
)
# what is counted is work for a CPU: on a GPU all of it is worth a look
TFLITE_GPU_CHOICES = (_DECONV, _MERGED, _MOVED)
NCNN_VULKAN_CHOICES = (_MERGED, _MOVED)
