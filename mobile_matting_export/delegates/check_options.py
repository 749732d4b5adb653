"""Conditions on an operation's own settings: activation, steps, masks, flags."""

from __future__ import annotations

import math

from mobile_matting_export.delegates.facts import (
    Facts,
    Predicate,
    activation,
    fails_if,
    shape_of,
    tensor_at,
    write_shape,
)
from mobile_matting_export.inspection import Graph, Op

_ABSORBS_PADDING = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D")
_MASKS = {"ellipsisMask": "ellipsis_mask", "newAxisMask": "new_axis_mask", "shrinkAxisMask": "shrink_axis_mask"}


def gpu_activation(op: Op, graph: Graph) -> Facts | None:
    """The fused activation is one that GPU kernels have."""
    name = activation(op)
    return fails_if(name not in ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH"), activation=name)


def positive(*names: str) -> Predicate:
    """None of the settings ``names`` is 0 or less."""
    return lambda op, graph: fails_if(any(int(op.options.get(name, 1)) <= 0 for name in names))


def depth_multiplier(op: Op, graph: Graph) -> Facts | None:
    """Each channel makes one, or there is one channel only."""
    channels = shape_of(graph.inputs_of(op)[0])[-1]
    multiplier = int(op.options.get("depthMultiplier", 1))
    return fails_if(multiplier != 1 and channels != 1, channels=channels, multiplier=multiplier)


def default_weights_format(op: Op, graph: Graph) -> Facts | None:
    """Weights lie in the plain order."""
    number = int(op.options.get("weightsFormat", 0))
    return fails_if(number != 0, format=number)


def no_masks(op: Op, graph: Graph) -> Facts | None:
    """No axis is added or dropped while slicing."""
    used = next((written for name, written in _MASKS.items() if op.options.get(name)), None)
    return None if used is None else {"mask": used}


def positive_strides(op: Op, graph: Graph) -> Facts | None:
    """A strided slice walks forwards."""
    strides = tensor_at(op, graph, 3)
    values = () if strides is None or strides.values is None else strides.values
    return fails_if(any(value <= 0 for value in values), strides=write_shape(tuple(map(int, values))))


def block_above_1(op: Op, graph: Graph) -> Facts | None:
    """A depth-to-space or space-to-depth with a block that does something."""
    return fails_if(int(op.options.get("blockSize", 2)) <= 1)


def softmax_beta_1(op: Op, graph: Graph) -> Facts | None:
    """A softmax without a temperature."""
    beta = float(op.options.get("beta", 1.0))
    return fails_if(beta != 1.0, beta=beta)


def one_alignment(op: Op, graph: Graph) -> Facts | None:
    """align_corners and half_pixel_centers are not both set."""
    return fails_if(bool(op.options.get("alignCorners")) and bool(op.options.get("halfPixelCenters")))


def finite_padding(op: Op, graph: Graph) -> Facts | None:
    """The padding value is finite, or a pooling or convolution absorbs the padding."""
    value = tensor_at(op, graph, 2)
    if value is None or value.values is None or all(map(math.isfinite, value.values)):
        return None
    readers = graph.consumers(op.outputs[0])
    absorbed = len(readers) == 1 and readers[0].kind in _ABSORBS_PADDING and _pads_rows_and_columns_only(op, graph)
    return fails_if(not absorbed, value=value.values[0])


def _pads_rows_and_columns_only(op: Op, graph: Graph) -> bool:
    paddings = tensor_at(op, graph, 1)
    if paddings is None or paddings.values is None or len(paddings.values) != 8:
        return False
    return not any((*paddings.values[:2], *paddings.values[6:]))


def reflect_only(op: Op, graph: Graph) -> Facts | None:
    """The border pixel is not repeated."""
    return fails_if(int(op.options.get("mode", 0)) != 0)
