"""Makes a TFLite file whose convolutions compute in int8 and give float: each rounds what it reads when it runs.

Nothing needs a range, and what stands between convolutions keeps its float numbers: nearer to the network than int8
throughout, and as fast where convolutions of several taps are nearly all of the work (ldn_fb: 0.47 of the time of
float, throughout 0.39). Others gain nothing: rounding what a 1x1 convolution reads takes as long as it saves
(portraitnet_video 1.58 of the time of float with them, 1.02 without; mmnet 1.62 and 1.01), and depthwise convolutions
have no XNNPACK kernel in this form (mmnet 2.5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_matting_export.errors import PlanRefused
from mobile_matting_export.formats.tflite.keep_ends import require_same_ends
from mobile_matting_export.formats.tflite.list_int8_layers import layer_name, list_int8_layers
from mobile_matting_export.formats.tflite.narrow_weights import WEIGHT_INPUT
from mobile_matting_export.formats.tflite.read_file import Subgraph, read_file
from mobile_matting_export.formats.tflite.run_quantizer import match_layers, require_known, run_quantizer
from mobile_matting_export.quantization.layer import QuantizableLayer

_ONE_TAP = (1, 1)


def list_dynamic_layers(files: tuple[Path, ...]) -> tuple[QuantizableLayer, ...]:
    """The layers with weights of the fp32 file, in order of execution.

    Raises:
        UsageError: the file is missing, no TFLite file, or damaged.
    """
    return tuple(layer for layer in list_int8_layers(files) if layer.kind in WEIGHT_INPUT)


def list_slower_layers(files: tuple[Path, ...]) -> frozenset[str]:
    """Names of those among them that int8 does not speed up in this form: all but convolutions of several taps."""
    graph = read_file(files[0]).main
    found = set()
    for operator in graph.operators:
        if operator.kind in WEIGHT_INPUT and operator.kind != "FULLY_CONNECTED":
            taps = graph.tensors[operator.inputs[WEIGHT_INPUT[operator.kind]]].shape[1:3]
            if operator.kind != "CONV_2D" or taps == _ONE_TAP:
                found.add(layer_name(graph, operator))
    return frozenset(found) & {layer.name for layer in list_dynamic_layers(files)}


def quantize_dynamic(files: tuple[Path, ...], keep_float: frozenset[str], folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite``: int8 weights and arithmetic for the layers that are not in ``keep_float``.

    Same inputs, same bytes.

    Raises:
        UsageError: ``keep_float`` names a layer that is not there.
        PlanRefused: the quantizer refuses the plan, or did not keep to it.
        ConversionError: the quantizer fails in another way.
    """
    known = {layer.name for layer in list_dynamic_layers(files)}
    require_known(keep_float, known)
    source, planned = read_file(files[0]).main, known - keep_float
    target = folder / f"{stem}.tflite"

    def configure(work: Any) -> None:
        from ai_edge_quantizer import recipe

        chosen = match_layers(source, planned)
        work.load_quantization_recipe([rule | {"regex": chosen} for rule in recipe.dynamic_wi8_afp32()])

    if planned:  # a rule that matches nothing is an error to the quantizer
        run_quantizer(files[0], target, configure, None, lambda made: _check(source, made, planned))
    else:
        target.write_bytes(files[0].read_bytes())
    return (target,)


def _check(source: Subgraph, made: Subgraph, planned: set[str]) -> None:
    """Compare the written weights' types with the plan, inputs and outputs with those of the float file."""
    if [op.kind for op in source.operators] != [op.kind for op in made.operators]:
        raise PlanRefused("ai-edge-quantizer changed the operations of the file; convert to fp16")
    for old, new in zip(source.operators, made.operators, strict=True):
        name = layer_name(source, old)
        is_int8 = old.kind in WEIGHT_INPUT and made.tensors[new.inputs[WEIGHT_INPUT[old.kind]]].dtype == "INT8"
        if is_int8 != (name in planned):
            raise PlanRefused(
                f"the plan has {name} ({old.kind}) in {'int8' if name in planned else 'float'}, ai-edge-quantizer "
                f"wrote it in {'int8' if is_int8 else 'float'}; convert to fp16"
            )
    require_same_ends(source, made)
