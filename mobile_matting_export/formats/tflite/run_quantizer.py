"""Runs ai-edge-quantizer on a float TFLite file: rules by names of layers, the result checked, whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import ConversionError, PlanRefused, UsageError
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.formats.tflite.keep_ends import restore_ends
from mobile_matting_export.formats.tflite.list_int8_layers import layer_name
from mobile_matting_export.formats.tflite.match_operators import match_operators
from mobile_matting_export.formats.tflite.read_file import Subgraph, read_file
from mobile_matting_export.formats.tflite.write_file import parse_whole, write_file

Statistics = dict[str, dict[str, np.ndarray]]
"""Tensor name -> ``min`` and ``max``, float32 1x1."""

# what the quantizer raises where rules or ranges of neighbours do not go together, or a rule meets nothing
_REFUSALS = (ValueError, RuntimeError, KeyError)


def run_quantizer(
    source: Path,
    target: Path,
    configure: Callable[[Any], None],
    statistics: Statistics | None,
    check: Callable[[Subgraph], None],
) -> None:
    """Write ``target``, with the inputs and outputs of ``source``; same arguments, same bytes.

    Args:
        source: the fp32 file.
        target: in another folder.
        configure: gives a ``Quantizer`` its rules.
        statistics: ranges of activations, None where none are needed.
        check: raises ``PlanRefused`` when the written main graph is not what was asked for.

    Raises:
        PlanRefused: the quantizer refuses the rules, or ``check`` does.
        ConversionError: the quantizer fails in another way.
        OSError: as a full disk; ``MemoryError`` passes, too.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(_quantize(source, configure, statistics))
        model = parse_whole(partial)
        restore_ends(model, read_file(source))
        write_file(model, partial)
        check(read_file(partial).main)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _quantize(source: Path, configure: Callable[[Any], None], statistics: Statistics | None) -> bytes:
    with held_output() as held:
        try:
            from ai_edge_quantizer import quantizer

            work = quantizer.Quantizer(str(source))
            configure(work)
            return bytes(work.quantize(statistics).quantized_model)
        except (OSError, MemoryError):
            raise  # the machine's, not the plan's
        except Exception as error:  # the quantizer raises whatever its parts raise
            kind = PlanRefused if isinstance(error, _REFUSALS) else ConversionError
            failure = kind(
                f"ai-edge-quantizer cannot make {source.name} int8: {type(error).__name__}: {error}; "
                "keep more layers in float, or convert to fp16"
            )
            failure.add_note(f"what the quantizer printed:\n{held()[-2000:]}")
            raise failure from error


def match_layers(graph: Subgraph, names: Collection[str]) -> str | None:
    """A regular expression for the quantizer's rules that matches these layers and no other; None without any."""
    return match_operators(
        (graph, operator) for operator in graph.operators if operator.outputs and layer_name(graph, operator) in names
    )


def require_known(names: frozenset[str], known: Collection[str]) -> None:
    """Refuse names of layers that are not among ``known``.

    Raises:
        UsageError: names the first three.
    """
    absent = sorted(names - set(known))
    if absent:
        raise UsageError(
            f"no layer of this file that can be int8 is called {', '.join(absent[:3])}"
            f"{' ...' if len(absent) > 3 else ''}; mmexport inspect lists them"
        )
