"""``mmexport inspect``: what is in the file, who computes it, and why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobile_matting_export.cli.common import NumbersType, Output, SizeType, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.inspection import BackendReport, Inspection, Op, Times
    from mobile_matting_export.networks.spec import ImageSpec

Numbers = tuple[float, float, float]
# a module's path is told by its end
_MODULE_WIDTH = 44
_MOST_MODULES = 3


@click.command()
@click.argument("artifact")
@click.option("--size", type=SizeType(), help="Input size of an ncnn file that does not state it.")
@click.option("--time", "timed", is_flag=True, help="Also time each layer of an ncnn file on this machine's CPU.")
@click.option("--mean", type=NumbersType(), help="Of a .tflite file without manifest: subtracted from pixels 0..255.")
@click.option("--scale", type=NumbersType(), help="Of a .tflite file without manifest: factor after the mean.")
@click.option(
    "--color",
    type=click.Choice(["RGB", "BGR"], case_sensitive=False),
    metavar="[RGB|BGR]",
    help="Of a .tflite file without manifest: channel order, RGB by default.",
)
@click.option("--html", "page", help="Also write a page with the graph coloured by verdict to this file.")
@click.option(
    "--overlay",
    help="Also write the verdicts as node data of Model Explorer, a file a backend, into this folder (.tflite only).",
)
@output_options
def inspect(
    artifact: str,
    size: tuple[int, int] | None,
    timed: bool,
    mean: Numbers | None,
    scale: Numbers | None,
    color: str | None,
    page: str | None,
    overlay: str | None,
    output: Output,
) -> None:
    """Say which operations of ARTIFACT each accelerator takes, why not the others, and what would help.

    ARTIFACT is a folder made by `mmexport convert`, any .tflite file, or any ncnn .param with its .bin
    beside it. Nothing runs on a phone: the verdicts follow the rules of the releases that are named.
    Hazards of half precision are found with photographs: a .tflite file without a manifest beside it needs
    --mean and --scale for them.

    \b
    Examples:
      mmexport inspect build/mmnet/tflite-gpu-fp16 --html inspection.html
      mmexport inspect build/mmnet/ncnn-cpu-fp16 --time
      mmexport inspect stranger.tflite --mean 127.5 --scale 1/127.5
    """
    from mobile_matting_export.inspect_artifact import inspect_artifact

    image = _image(mean, scale, color)
    with output.progress(total=2 if timed else 1) as announce:
        announce(f"inspecting {artifact}")
        inspection = inspect_artifact(Path(artifact), size, image)
        if overlay is not None:  # what it refuses it refuses before the operations are timed
            from mobile_matting_export.report.model_explorer import write_overlays

            for path in write_overlays(Path(overlay), inspection):
                output.note(f"node data: {path}")
        if timed:
            from mobile_matting_export.time_operations import time_operations

            announce("timing its operations")
            inspection = replace(inspection, times=time_operations(inspection))
    if page is not None:
        from mobile_matting_export.report.inspection_page import write_inspection_page

        write_inspection_page(Path(page), inspection)
        output.note(f"page: {page}")
    output.result(inspection.to_json(), lambda: _text(inspection))


def _image(mean: Numbers | None, scale: Numbers | None, color: str | None) -> ImageSpec | None:
    """How a picture enters a file without a manifest, None where nothing is said of it."""
    if mean is None and scale is None and color is None:
        return None
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.networks.spec import ImageSpec

    if mean is None or scale is None:
        raise UsageError("--mean and --scale belong together: (pixel - mean) * scale is what the file expects")
    return ImageSpec(color="BGR" if color == "BGR" else "RGB", mean=mean, scale=scale)


def _text(inspection: Inspection) -> RenderableType:
    from rich.console import Group

    parts: list[RenderableType] = [_ops(inspection), "", *_head(inspection)]
    for backend in inspection.backends:
        parts += ["", *_backend(inspection, backend)]
    for remark in inspection.remarks:
        ops = _operations(remark.ops, [inspection.graph.ops[number].kind for number in remark.ops])
        parts += [
            "",
            _plain(f"Note: {ops}{_from(inspection, remark.ops)}: {remark.says}"),
            _indent("help", remark.remedy),
        ]
    for hazard in inspection.hazards:
        op = inspection.graph.ops[hazard.op]
        parts += ["", _plain(f"Hazard {hazard.kind} at {op.kind} {op.number}, {hazard.where}: {hazard.says}")]
        parts.append(_indent("help", hazard.remedy))
    return Group(*parts)


def _head(inspection: Inspection) -> list[RenderableType]:
    graph, memory = inspection.graph, inspection.memory
    macs = sum(op.macs or 0 for op in graph.ops)
    facts = [f"{inspection.bytes / 1e6:.2f} MB", f"{len(graph.ops)} operations"]
    facts += [f"{macs / 1e6:.1f} M multiply-adds"] if macs else []
    if memory.peak_bytes is not None and memory.at is not None:
        place = graph.ops[memory.at]
        facts.append(f"peak {memory.peak_bytes / 1e6:.1f} MB of tensors at {place.kind} {place.number} ({memory.how})")
    else:
        facts.append(f"memory unknown: {memory.unknown}")
    lines = [f"{inspection.title}: {', '.join(facts)}.", *(f"Note: {note}." for note in graph.notes)]
    lines += [] if inspection.times is None else [_about_times(inspection.times)]
    return list(map(_plain, lines))


def _backend(inspection: Inspection, backend: BackendReport) -> list[RenderableType]:
    from mobile_matting_export.group_refusals import group_refusals, quote, summarize_outcome

    lines: list[RenderableType] = [_plain(f"{backend.title} {summarize_outcome(backend)}. Rules: {backend.rules}.")]
    for group in group_refusals(inspection.graph, backend):
        first = group.first
        ops = _operations(group.ops, [group.kind] * len(group.ops))
        lines.append(_plain(f"  {ops}{_from(inspection, group.ops)}: {first.means}"))
        if first.reason:
            lines.append(_indent("says", quote(group.kind, first)))
        if first.remedy:
            lines.append(_indent("help", first.remedy))
    return lines


def _ops(inspection: Inspection) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    heads = [backend.title for backend in inspection.backends]
    named = ["from module"] if any(op.module for op in inspection.graph.ops) else []
    timed = _time_heads(inspection)
    table = Table("", "operation", "output", "MACs", *timed, *named, *heads, box=None, pad_edge=False)
    for op in inspection.graph.ops:
        verdicts = [_cell(backend, op) for backend in inspection.backends]
        kind = op.kind if inspection.graph.format == "ncnn" else f"{op.kind} v{op.version}"
        macs = "" if not op.macs else f"{op.macs / 1e6:.2f} M"
        module = [_shorten(op.module)] if named else []
        cells = (str(op.number), kind, _output(inspection, op), macs, *_time(inspection, op), *module, *verdicts)
        table.add_row(*map(escape, cells))
    return table


def _time_heads(inspection: Inspection) -> list[str]:
    if inspection.times is None:
        return []
    return ["ms here", "of time"] if inspection.times.ms else ["of MACs, counted"]


def _time(inspection: Inspection, op: Op) -> list[str]:
    times = inspection.times
    if times is None:
        return []
    if times.ms:
        return [f"{times.ms[op.number]:.3f}", f"{times.share(op.number):.1%}"]
    return [f"{inspection.share_of_macs(op):.1%}" if op.macs else ""]


def _about_times(times: Times) -> str:
    if times.whole_ms is None:
        return f"Note: {times.why_not}."
    added = sum(times.ms) / times.whole_ms
    return (
        f"A frame takes {times.whole_ms:.2f} ms of CPU time here, one thread, which says little of a phone; "
        f"the layers, timed one by one, add up to {added:.2f} of it."
    )


def _output(inspection: Inspection, op: Op) -> str:
    made = inspection.graph.outputs_of(op)
    if not made:
        return ""
    shape = "?" if made[0].shape is None else "x".join(map(str, made[0].shape)) or "1"
    more = f" (+{len(made) - 1})" if len(made) > 1 else ""
    return f"{shape} {made[0].dtype.lower()}{more}"


def _cell(backend: BackendReport, op: Op) -> str:
    verdict = backend.verdicts[op.number]
    return "yes" if verdict.taken else "STOPS" if verdict.fatal else "NO"


def _operations(numbers: tuple[int, ...], kinds: list[str]) -> str:
    """``TRANSPOSE 15``, ``12 TRANSPOSE, first 15``."""
    names = "/".join(dict.fromkeys(kinds))
    return f"{names} {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} {names}, first {numbers[0]}"


def _from(inspection: Inspection, numbers: tuple[int, ...]) -> str:
    from mobile_matting_export.group_refusals import modules_of

    modules = modules_of(inspection.graph, numbers)
    more = f" and {len(modules) - _MOST_MODULES} more" if len(modules) > _MOST_MODULES else ""
    return f", from {', '.join(modules[:_MOST_MODULES])}{more}" if modules else ""


def _shorten(module: str) -> str:
    return module if len(module) <= _MODULE_WIDTH else f"...{module[-_MODULE_WIDTH + 3 :]}"


def _indent(word: str, sentence: str) -> RenderableType:
    return _plain(f"    {word}: {sentence}")


def _plain(sentence: str) -> RenderableType:
    from rich.text import Text

    # shapes in square brackets are no markup
    return Text(sentence)
