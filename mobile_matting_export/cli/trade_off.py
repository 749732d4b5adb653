"""``mmexport trade-off``: one network's artifacts side by side, with latency beside size and error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from mobile_matting_export.artifact import Artifact
    from mobile_matting_export.make_references import Reference
    from mobile_matting_export.trade_off import ArtifactRow, DeviceLatencies, TradeOff

HOST = "host"
NOW = "measured now, in turns"
# of the artifacts in a folder; those named stay as they are named
_PRECISIONS = ("fp32", "fp16", "w8", "int8")


@click.command("trade-off")
@click.argument("artifact", nargs=-1, required=True)
@click.option(
    "--latency-from",
    multiple=True,
    metavar="REPORT",
    help="Take latencies from this report of `mmexport bench` (JSON); may be given again.",
)
@click.option(
    "--device",
    "-d",
    help="Measure latencies there now: a serial, or host. Default: host, where no --latency-from is given.",
)
@click.option("--images", help="Folder of pictures to compare mattes on; default: the bundled samples.")
@click.option("--checkpoint", "-c", help="The network's weights, where the manifest's path does not lead to them.")
@click.option("--network", help="path/to/file.py:callable, where the manifest's path does not lead to it.")
@click.option("--html", "page", help="Also write a page with plots and the worst pictures to this file.")
@output_options
def trade_off(
    artifact: tuple[str, ...],
    latency_from: tuple[str, ...],
    device: str | None,
    images: str | None,
    checkpoint: str | None,
    network: str | None,
    page: str | None,
    output: Output,
) -> None:
    """Show latency, size and error of each ARTIFACT of one network, as a table and as a page with plots.

    ARTIFACT is a folder made by `mmexport convert`, or a folder of such folders of one network. Latencies come from
    bench reports, matched by the files' sha256, or are measured now; errors are measured on this computer, against
    the original network.

    \b
    Examples:
      mmexport trade-off build/mmnet --html trade-off.html
      mmexport trade-off build/mmnet --latency-from pixel.json --latency-from galaxy.json --html trade-off.html
    """
    from android_bench.report import read_report
    from mobile_matting_export.cli.match_report import match_report
    from mobile_matting_export.cli.show_trade_off import show_trade_off
    from mobile_matting_export.trade_off import TradeOff, require_one_network

    artifacts = _read(artifact)
    name = require_one_network(artifacts)
    # what cannot be is said before anything is computed or measured
    if page is not None:
        from mobile_matting_export.report.trade_off_page import require_page_place

        require_page_place(Path(page))
    devices = [match_report(read_report(Path(path)), path, artifacts, output.note) for path in latency_from]
    runnable = _runnable(artifacts, device or HOST, output) if device or not latency_from else []
    if runnable and device not in (None, HOST):
        from android_bench.adb import find_phone

        find_phone(device)
    references = _refer(artifacts, images, checkpoint, network, output)
    if runnable:
        devices.append(_measure(runnable, artifacts, device or HOST, output))
    result = TradeOff(name, tuple(_compare(artifacts, references, output)), tuple(devices))
    output.result(result.as_dict() | {"html": page}, lambda: show_trade_off(result))
    if page is not None:
        _write_page(Path(page), result, output)


def _read(named: Sequence[str]) -> list[Artifact]:
    """The artifacts named, and those in the folders named, each once."""
    from mobile_matting_export.artifact import read_artifact

    found: dict[Path, Artifact] = {}
    for path in map(Path, named):
        opened = [read_artifact(place) for place in _places(path)]
        for artifact in sorted(opened, key=_order):
            found.setdefault(artifact.folder.resolve(), artifact)
    return list(found.values())


def _places(path: Path) -> list[Path]:
    """The path itself where it is an artifact, else the artifacts in it, or in the only network's folder in it.

    Raises:
        UsageError: it holds the folders of several networks.
    """
    from mobile_matting_export.artifact import MANIFEST
    from mobile_matting_export.errors import UsageError

    if not path.is_dir() or (path / MANIFEST).exists():
        return [path]
    if inside := sorted(path.glob(f"*/{MANIFEST}")):
        return inside
    deeper = sorted(path.glob(f"*/*/{MANIFEST}"))
    networks = sorted({place.parent.parent for place in deeper})
    if len(networks) > 1:
        listed = ", ".join(one.name for one in networks[:-1])
        raise UsageError(
            f"{path} holds {listed} and {networks[-1].name}: a trade-off is between artifacts of one network; name "
            f"one, as {networks[0]}"
        )
    return deeper or [path]


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


def _measure(
    runnable: Sequence[Artifact], artifacts: Sequence[Artifact], device: str, output: Output
) -> DeviceLatencies:
    from mobile_matting_export.cli.bench_run import run_bench
    from mobile_matting_export.cli.match_report import match_report

    return match_report(run_bench(runnable, device, {}, None, output), NOW, artifacts, output.detail)


def _refer(
    artifacts: Sequence[Artifact], images: str | None, checkpoint: str | None, network: str | None, output: Output
) -> list[Reference]:
    """What the original makes of the pictures, for each artifact."""
    from mobile_matting_export.make_references import make_references
    from mobile_matting_export.read_facts import read_facts

    weights = None if checkpoint is None else Path(checkpoint)
    with output.progress(total=len({read_facts(one).original for one in artifacts})) as announce:
        return make_references(artifacts, None if images is None else Path(images), weights, network, announce)


def _compare(artifacts: Sequence[Artifact], references: Sequence[Reference], output: Output) -> Iterator[ArtifactRow]:
    """Each artifact with its error; one that has no original, or fails to run, has none, and that is told."""
    from mobile_matting_export.errors import MmexportError
    from mobile_matting_export.score_artifact import score_artifact
    from mobile_matting_export.trade_off import ArtifactRow, label_artifacts

    with output.progress(total=len(artifacts)) as announce:
        for artifact, label, reference in zip(artifacts, label_artifacts(artifacts), references, strict=True):
            announce(f"comparing {artifact.title} with PyTorch")
            scored, why = None, reference.why
            if not why:
                try:
                    scored = score_artifact(artifact, reference.cases)
                except (MmexportError, RuntimeError) as error:  # RuntimeError: an interpreter fails on a frame
                    why = f"it does not run here: {error}"
            if why:
                output.note(f"{artifact.folder} is not compared with its network: {why}")
            yield ArtifactRow(label, artifact, scored, why)


def _write_page(place: Path, result: TradeOff, output: Output) -> None:
    """Write the page when the result is on stdout already: a failure must not cost the measurement."""
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.report.trade_off_page import write_trade_off_page

    try:
        write_trade_off_page(place, result)
    except UsageError as error:
        # no raise: with --json nothing may follow the result on stdout
        click.echo(f"mmexport: {error}", err=True)
        raise click.exceptions.Exit(error.exit_code) from None
    output.note(f"page: {place}")
