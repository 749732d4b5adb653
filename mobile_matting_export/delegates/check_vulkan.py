"""Conditions of ncnn on Vulkan: what makes a layer lose its Vulkan form while the file is loaded.

Options are the layer's settings, by key (Tencent/ncnn, "operation param weight table").
"""

from __future__ import annotations

from mobile_matting_export.delegates.facts import Facts, fails_if
from mobile_matting_export.inspection import Graph, Op

_FEATURES_OFF, _NO_VULKAN = "31", 16
_DYNAMIC_WEIGHT = {
    "Convolution": "19",
    "ConvolutionDepthWise": "19",
    "Deconvolution": "28",
    "DeconvolutionDepthWise": "28",
}
_INT8_SCALES, _PAD_VALUE = "8", "18"
_GEMM_QUANTIZED = "18"


def vulkan_allowed(op: Op, graph: Graph) -> Facts | None:
    """The layer's feature mask leaves Vulkan on."""
    mask = int(op.options.get(_FEATURES_OFF, 0))
    return fails_if(bool(mask & _NO_VULKAN), mask=mask)


def stored_weights(op: Op, graph: Graph) -> Facts | None:
    """The weights are in the file."""
    return fails_if(int(op.options.get(_DYNAMIC_WEIGHT[op.kind], 0)) != 0)


def plain_int8_padding(op: Op, graph: Graph) -> Facts | None:
    """An 8 bit convolution pads with zeros."""
    if not op.kind.startswith("Convolution"):
        return None
    value = float(op.options.get(_PAD_VALUE, 0))
    return fails_if(int(op.options.get(_INT8_SCALES, 0)) != 0 and value != 0, value=value)


def plain_gemm(op: Op, graph: Graph) -> Facts | None:
    """The weights are not quantized."""
    return fails_if(int(op.options.get(_GEMM_QUANTIZED, 0)) != 0)
