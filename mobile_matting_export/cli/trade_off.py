"""``mmexport trade-off``: one network's artifacts side by side, with latency beside size and error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.artifact import Artifact
    from mobile_matting_export.trade_off import Clocked, Entry, Latency, TradeOff

NOW = "measured now, in turns"
# of the artifacts in a folder; those named stay as they are named
_PRECISIONS = ("fp32", "fp16", "w8", "int8")


@click.command("trade-off")
@click.argument("artifact", nargs=-1, required=True)
@click.option(
    "--report", multiple=True, help="Take latencies from this report of `mmexport bench` (JSON); may be given again."
)
@click.option(
    "--device", "-d", help="Measure latencies there now: a serial, or host. Default: host, where no --report is given."
)
@click.option("--images", help="Folder of pictures to compare mattes on; default: the bundled samples.")
@click.option("--checkpoint", "-c", help="The network's weights, where the manifest's path does not lead to them.")
@click.option("--network", help="path/to/file.py:callable, where the manifest's path does not lead to it.")
@click.option("--html", "page", help="Also write a page with plots and the worst pictures to this file.")
@output_options
def trade_off(
    artifact: tuple[str, ...],
    report: tuple[str, ...],
    device: str | None,
    images: str | None,
    checkpoint: str | None,
    network: str | None,
    page: str | None,
    output: Output,
) -> None:
    """Show latency, size and error of each ARTIFACT of one network, as a table and as a page with plots.

    ARTIFACT is a folder made by `mmexport convert`, or a folder of such folders. Latencies come from bench
    reports, matched by the files' sha256, or are measured now; errors are measured on this computer, against the
    original network.

    \b
    Examples:
      mmexport trade-off build/mmnet --html trade-off.html
      mmexport trade-off build/mmnet --report pixel.json --report galaxy.json --html trade-off.html
    """
    from android_bench.report import read_report
    from mobile_matting_export.cli.match_report import match_report
    from mobile_matting_export.trade_off import TradeOff, label_artifacts, require_one_network

    artifacts = _read(artifact)
    name = require_one_network(artifacts)
    # what is wrong with a report is said before anything is computed
    clocked = [match_report(read_report(Path(path)), path, artifacts, output.note) for path in report]
    runnable = _runnable(artifacts, device or "host", output) if device or not report else []
    entries = _score(artifacts, label_artifacts(artifacts), images, checkpoint, network, output)
    if runnable:
        clocked.append(_measure(runnable, artifacts, device or "host", output))
    result = TradeOff(name, tuple(entries), tuple(clocked))
    if page is not None:
        from mobile_matting_export.report.trade_off_page import write_trade_off_page

        write_trade_off_page(Path(page), result)
        output.note(f"page: {page}")
    output.result(result.as_dict() | {"html": page}, lambda: _text(result))


def _read(named: Sequence[str]) -> list[Artifact]:
    """The artifacts named, and those in the folders named, each once."""
    from mobile_matting_export.artifact import MANIFEST, read_artifact

    found: dict[Path, Artifact] = {}
    for path in map(Path, named):
        inside = sorted(path.glob(f"*/{MANIFEST}")) if path.is_dir() and not (path / MANIFEST).exists() else []
        opened = [read_artifact(place) for place in inside or [path]]
        for artifact in sorted(opened, key=_order):
            found.setdefault(artifact.folder.resolve(), artifact)
    return list(found.values())


def _order(artifact: Artifact) -> tuple[str, int]:
    target, precision = (artifact.manifest.get(key) for key in ("target", "precision"))
    return str(target), _PRECISIONS.index(precision) if precision in _PRECISIONS else len(_PRECISIONS)


def _runnable(artifacts: Sequence[Artifact], device: str, output: Output) -> list[Artifact]:
    """Those that a runner takes; the others are told."""
    from mobile_matting_export.cli.bench_jobs import RUNTIMES, runtime_of

    for artifact in artifacts:
        if runtime_of(artifact) not in RUNTIMES:
            output.note(f"{artifact.folder} is not timed on {device}: there is no runner for {runtime_of(artifact)}")
    return [artifact for artifact in artifacts if runtime_of(artifact) in RUNTIMES]


def _measure(runnable: Sequence[Artifact], artifacts: Sequence[Artifact], device: str, output: Output) -> Clocked:
    from mobile_matting_export.cli.bench_run import run_bench
    from mobile_matting_export.cli.match_report import match_report

    return match_report(run_bench(runnable, device, {}, None, output), NOW, artifacts, output.detail)


def _score(
    artifacts: Sequence[Artifact],
    labels: Sequence[str],
    images: str | None,
    checkpoint: str | None,
    network: str | None,
    output: Output,
) -> Iterator[Entry]:
    """Each artifact with its error; one whose original network is not at hand has none, and that is told."""
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.parity import make_cases
    from mobile_matting_export.score_artifact import score_artifact
    from mobile_matting_export.trade_off import Entry
    from mobile_matting_export.verify import load_original

    with output.progress(total=len(artifacts)) as announce:
        for artifact, label in zip(artifacts, labels, strict=True):
            announce(f"comparing {artifact.title} with PyTorch")
            try:
                original = load_original(artifact, None if checkpoint is None else Path(checkpoint), network)
            except UsageError as error:
                if checkpoint is not None or network is not None:
                    raise
                output.note(f"{artifact.folder} is not compared with its network: {error}")
                yield Entry(label, artifact, None, str(error))
                continue
            cases = make_cases(original, None if images is None else Path(images))
            yield Entry(label, artifact, score_artifact(artifact, cases))


def _text(result: TradeOff) -> RenderableType:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    times = [column for one in result.clocked for column in (f"p50, {one.device}", "p90")]
    heads = ("artifact", *times, "files", "MAD in the band", "MAD", "worst by the band", "lowest PSNR", "of its budget")
    table = Table(*map(escape, heads), box=None, pad_edge=False)
    for number, entry in enumerate(result.entries):
        cells = [words for one in result.clocked for words in _times(one.latencies[number])]
        table.add_row(*map(escape, (entry.label, *cells, f"{entry.bytes / 1e6:.2f} MB", *_errors(entry))))
    doubts = [
        f"? {entry.label} on {one.device}: {doubt}"
        for one in result.clocked
        for entry, latency in zip(result.entries, one.latencies, strict=True)
        for doubt in (() if latency is None else latency.doubts)
    ]
    return Group(table, *([""] if doubts else []), *map(Text, doubts))


def _times(latency: Latency | None) -> tuple[str, str]:
    if latency is None:
        return "not measured", ""
    p50, p90 = ("no time" if ms is None else f"{ms:.2f} ms" for ms in (latency.p50, latency.p90))
    return f"{p50}{' ?' if latency.doubts else ''}", p90


def _errors(entry: Entry) -> tuple[str, ...]:
    found: dict[str, Any] | None = entry.artifact.manifest.get("quantization")
    used = None if found is None else found["held_out"]["used"]
    budget = "" if found is None else "?" if used is None else f"{100 * used:.0f} %"
    if entry.scored is None:
        return "not compared", "", "", "", budget
    score = entry.scored.score
    worst = f"{score.worst}, {score.worst_band:.2g}"
    return f"{score.mad_band:.2g}", f"{score.mad:.2g}", worst, f"{score.psnr:.1f} dB", budget
