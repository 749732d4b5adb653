"""Operators that litert-torch never writes by itself: PRELU, DEPTH_TO_SPACE, legacy RESIZE_BILINEAR, SLICE of two axes.

litert-torch changes the layout of a graph before it writes it: its layout pass asks of every operator
whether it can or must work on NHWC maps, and how. ``teach_litert_torch`` tells it so of ours: each must, and has
an NHWC twin, which exists for litert-torch only and computes nothing; and a twin is written as a
``stablehlo.custom_call`` of ``tfl.NAME``, which litert-converter turns into that TFLite operator. (Changes of
layout around an NHWC operator would do, but where the graph forks behind them the pass may leave some.)
None of this is litert-torch's public interface. Its version is pinned (constraints.txt), and
tests/formats/test_tflite_native_ops.py reads every operator back from a file.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE, RESIZE_BILINEAR_LEGACY, SPREAD_COLUMNS

torch.library.define("mmexport::channel_prelu", "(Tensor image, Tensor slopes) -> Tensor")
torch.library.define("mmexport_nhwc::channel_prelu", "(Tensor image, Tensor slopes) -> Tensor")
torch.library.define("mmexport_nhwc::depth_to_space", "(Tensor image, int block) -> Tensor")
torch.library.define("mmexport_nhwc::resize_bilinear_legacy", "(Tensor image, int height, int width) -> Tensor")
torch.library.define("mmexport_nhwc::crop", "(Tensor image, int top, int left, int height, int width) -> Tensor")
torch.library.define("mmexport_nhwc::spread_columns", "(Tensor image, int channels) -> Tensor")


@torch.library.register_fake("mmexport::channel_prelu")
@torch.library.register_fake("mmexport_nhwc::channel_prelu")
def _(image: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(image, memory_format=torch.contiguous_format)


@torch.library.register_fake("mmexport_nhwc::depth_to_space")
def _(image: torch.Tensor, block: int) -> torch.Tensor:
    batch, height, width, channels = image.shape
    return image.new_empty(batch, height * block, width * block, channels // block**2)


@torch.library.register_fake("mmexport_nhwc::resize_bilinear_legacy")
def _(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return image.new_empty(image.shape[0], height, width, image.shape[3])


@torch.library.register_fake("mmexport_nhwc::crop")
def _(image: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    return image.new_empty(image.shape[0], height, width, image.shape[3])


@torch.library.register_fake("mmexport_nhwc::spread_columns")
def _(image: torch.Tensor, channels: int) -> torch.Tensor:
    batch, height, width, together = image.shape
    return image.new_empty(batch, height, width * together // channels, channels)


_PRELU = torch.ops.mmexport.channel_prelu.default
_NHWC = torch.ops.mmexport_nhwc
_TWINS = {
    _PRELU: _NHWC.channel_prelu.default,
    DEPTH_TO_SPACE: _NHWC.depth_to_space.default,
    RESIZE_BILINEAR_LEGACY: _NHWC.resize_bilinear_legacy.default,
    CROP: _NHWC.crop.default,
    SPREAD_COLUMNS: _NHWC.spread_columns.default,
}


def spell_prelu(image: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    """A PReLU of an NCHW map, for litert-torch's eyes only: it takes ATen's apart into four operators.

    ``slopes``: one a channel, or one for all. In the file there is one for each channel, which is the only shape
    that all delegates take.
    """
    result: torch.Tensor = _PRELU(image, slopes.reshape(1, 1, -1).expand(1, 1, image.shape[1]))
    return result


@cache
def teach_litert_torch() -> None:
    """Register layouts and spellings of our operators with litert-torch; imports it, which takes seconds."""
    _register_layouts()
    _register_lowerings()


def _register_layouts() -> None:
    from litert_torch._convert.fx_passes.optimize_layout_transposes_pass import layout_check, layout_rewrite

    def must_be_channel_last(node: torch.fx.Node) -> Any:
        return layout_check.NHWCable(can_be=True, must_be=True)

    def first_argument(node: torch.fx.Node) -> list[Any]:
        return [node.args[0]]

    def call_twin(node: torch.fx.Node) -> None:
        node.target = _TWINS[node.target]

    for target in _TWINS:
        layout_check.nhwcable_node_checkers.register(target)(must_be_channel_last)
        layout_check.layout_sensitive_inputs_getters.register(target)(first_argument)
        layout_rewrite.rewriters.register(target)(call_twin)


def _register_lowerings() -> None:
    import numpy as np
    from litert_converter.mlir import ir
    from litert_converter.mlir.dialects import stablehlo
    from litert_torch.backend.lowerings import registry, utils

    def call(context: Any, name: str, operands: list[Any], **attributes: Any) -> Any:
        return stablehlo.custom_call(
            result=utils.node_meta_to_ir_types(context.node),
            inputs=operands,
            call_target_name=ir.StringAttr.get(f"tfl.{name}"),
            has_side_effect=ir.BoolAttr.get(False),
            backend_config=ir.StringAttr.get(str(ir.DictAttr.get(attributes))),
        )

    def integers(*numbers: int) -> Any:
        return stablehlo.constant(ir.DenseElementsAttr.get(np.array(numbers, np.int32)))

    @registry.lower(_NHWC.channel_prelu.default)
    def prelu(context: Any, image: Any, slopes: Any) -> Any:
        return call(context, "prelu", [image, slopes])

    @registry.lower(_NHWC.depth_to_space.default)
    def depth_to_space(context: Any, image: Any, block: int) -> Any:
        size = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), block)
        return call(context, "depth_to_space", [image], block_size=size)

    @registry.lower(_NHWC.resize_bilinear_legacy.default)
    def resize_bilinear(context: Any, image: Any, height: int, width: int) -> Any:
        no = ir.BoolAttr.get(False)
        operands = [image, integers(height, width)]
        return call(context, "resize_bilinear", operands, align_corners=no, half_pixel_centers=no)

    @registry.lower(_NHWC.crop.default)
    def crop(context: Any, image: Any, top: int, left: int, height: int, width: int) -> Any:
        batch, _, _, channels = image.type.shape
        return call(context, "slice", [image, integers(0, top, left, 0), integers(batch, height, width, channels)])

    @registry.lower(_NHWC.spread_columns.default)
    def spread_columns(context: Any, image: Any, channels: int) -> Any:
        (result,) = utils.node_meta_to_ir_types(context.node)
        return stablehlo.reshape(result, image)
