"""``mmexport evaluate``: how good are the mattes, against ground truth?"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.contestant import Contestant
    from mobile_matting_export.evaluate import Metric


@click.command()
@click.argument("artifacts", nargs=-1, required=True)
@click.option(
    "--data",
    "-d",
    required=True,
    help="Folder with image/X.jpg and alpha/X.png (grey, 255 person), or of such folders.",
)
@click.option("--reference", is_flag=True, help="Score the original PyTorch network of each artifact, too.")
@click.option(
    "--read-as",
    type=click.Choice(["auto", "stills", "sequence"]),
    default="auto",
    show_default=True,
    help="Whether pictures are frames of a film; auto: when numbered without a gap and of one size.",
)
@click.option(
    "--worst",
    type=click.IntRange(0, 100),
    default=8,
    show_default=True,
    help="How many of the worst pictures the page shows.",
)
@click.option("--output", "-o", "folder", help="Folder for evaluation.json and .html; default build/evaluation/<data>.")
@click.option(
    "--checkpoint",
    "-c",
    help="For --reference: the network's weights, where they are no longer at the path in the manifest.",
)
@output_options
def evaluate(
    artifacts: tuple[str, ...],
    data: str,
    reference: bool,
    read_as: str,
    worst: int,
    folder: str | None,
    checkpoint: str | None,
    output: Output,
) -> None:
    """Score ARTIFACTS against true mattes: MAD, MSE, SAD, Grad, Conn, IoU; dtSSD for sequences.

    Several artifacts stand in one table, compared picture by picture with the first. The page shows
    the worst pictures.

    \b
    Example:
      mmexport evaluate build/mmnet/tflite-gpu-fp16 --data photos/ --reference
    """
    from mobile_matting_export.artifact import require_writable
    from mobile_matting_export.data_set import read_data_set
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.evaluate import evaluate as evaluate_all
    from mobile_matting_export.evaluate import summarize
    from mobile_matting_export.one_thread import one_thread
    from mobile_matting_export.write_evaluation import require_own, write_evaluation

    if checkpoint is not None and not reference:
        raise UsageError("--checkpoint is the network's weights: it goes with --reference")
    clips = read_data_set(Path(data), read_as)
    target = Path(folder) if folder else Path("build/evaluation") / Path(data).resolve().name
    require_writable(target)
    require_own(target)
    with contextlib.ExitStack() as opened, one_thread():
        contestants = _open(artifacts, reference, checkpoint, opened)
        with output.progress(total=sum(len(clip.frames) for clip in clips)) as announce:
            evaluation = evaluate_all(contestants, clips, worst, announce)
    rows = summarize(evaluation)
    files = write_evaluation(target, data, evaluation, rows)
    result: dict[str, Any] = {"data": data, "notes": evaluation.notes, "results": rows, "files": list(map(str, files))}
    if len(artifacts) == 1:  # the contract's form, with or without its network beside it
        result |= {"images": rows[0]["images"], "metrics": rows[0]["metrics"]}
    output.result(result, lambda: _tables(rows, evaluation.metrics, evaluation.notes, files))


def _open(
    artifacts: tuple[str, ...], reference: bool, checkpoint: str | None, opened: contextlib.ExitStack
) -> list[Contestant]:
    """The artifacts' sessions, closed with ``opened``, and their networks where asked for, each once."""
    from mobile_matting_export.artifact import read_artifact
    from mobile_matting_export.contestant import artifact_contestant, network_contestant
    from mobile_matting_export.matte import open_session
    from mobile_matting_export.network import state_sha256
    from mobile_matting_export.verify import load_original

    read = [read_artifact(Path(artifact)) for artifact in artifacts]
    contestants: list[Contestant] = []
    for artifact in read:
        session = opened.enter_context(contextlib.closing(open_session(artifact)))
        contestants.append(artifact_contestant(artifact, session))
    if reference:
        weights = None if checkpoint is None else Path(checkpoint)
        loaded = [load_original(artifact, weights, None) for artifact in read]
        # an artifact of each target is of one network
        networks = {(state_sha256(one.module), one.size, one.spec.image): one for one in loaded}
        contestants += [network_contestant(one) for one in networks.values()]
    return contestants


def _tables(
    rows: list[dict[str, Any]], metrics: tuple[Metric, ...], notes: tuple[str, ...], files: tuple[Path, ...]
) -> RenderableType:
    from rich.console import Group

    parts: list[RenderableType] = [_table(rows, metrics, "metrics", f"{rows[0]['images']} pictures")]
    if len(rows) > 1:
        parts.append(_table(rows[1:], metrics, "difference", f"difference from {rows[0]['title']}"))
    parts += [f"Note: {note}." for note in notes]
    parts.append(f"In brackets: 95 % interval of the mean. Page: {files[-1]}")
    return Group(*parts)


def _table(rows: list[dict[str, Any]], metrics: tuple[Metric, ...], of: str, title: str) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    from mobile_matting_export.report.evaluation_page import format_figure

    # a row a metric: a column each would not fit a terminal
    table = Table(title, *(escape(row["title"]) for row in rows), box=None, pad_edge=False)
    for metric in metrics:
        cells = (" ".join(format_figure(metric, row[of][metric.name], of)) for row in rows)
        table.add_row(metric.title, *cells)
    return table
