"""``python -m mobile_matting_export.demo``: the bundled network for every target, side by side."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.errors import MmexportError, UsageError
from mobile_matting_export.formats.format import Session
from mobile_matting_export.images import from_output, load_picture, sample_pictures
from mobile_matting_export.matte import make_inputs, matte_picture, open_session
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.parity import run_network
from mobile_matting_export.report.demo_page import Mattes, write_demo_page
from mobile_matting_export.report.page import format_bytes, format_error
from mobile_matting_export.targets import TARGETS

NETWORK = "mmnet"

ROUNDS = 20
_WARM_UP_ROUNDS = 3


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="Folder of the artifacts and the page.",
)
def main(output: Path) -> None:
    """Convert the bundled network for every target, check and time the files, and show them on a page."""
    try:
        run_demo(output, Console(), Console(stderr=True))
    except MmexportError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)


def run_demo(output: Path, result: Console, progress: Console) -> Path:
    """Make ``output/mmnet/*`` for all targets and ``output/demo/index.html``; print the table.

    Args:
        output: folder, made when absent; earlier artifacts of ours in it are replaced.
        result: gets the table and the page's path.
        progress: gets a line per step.

    Returns:
        The page.

    Raises:
        MmexportError: a conversion failed, an artifact missed its limits, or nothing can be written.
    """
    started = time.perf_counter()

    def announce(message: str) -> None:
        progress.print(f"[dim]{time.perf_counter() - started:6.1f} s[/dim]  {message}", highlight=False)

    announce(f"loading {NETWORK}")
    network = load_network(NETWORK)
    artifacts = convert_network(network, Job(TARGETS, output), announce)
    with contextlib.ExitStack() as stack:
        sessions = []
        for artifact in artifacts:
            sessions.append(open_session(artifact))
            stack.callback(sessions[-1].close)
        announce("matting the sample pictures")
        pictures = [_matte(path, network, artifacts, sessions) for path in sample_pictures()]
        announce(f"timing {ROUNDS} frames of each artifact, in turns")
        inputs = [make_inputs(artifact, pictures[0].picture) for artifact in artifacts]
        medians = time_sessions(sessions, inputs, ROUNDS)
    page = output / "demo" / "index.html"
    note = (
        f"Median of {ROUNDS} frames on this machine, the artifacts taking turns, one thread each (a Vulkan device in "
        "software takes the cores it finds). ncnn-vulkan runs in a child process: its time includes the way there and "
        "back. These are no phone's times."
    )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_demo_page(page, artifacts, medians, note, pictures)
    except OSError as error:
        raise UsageError(f"cannot write {page}: {error.strerror or error}; choose another --output") from error
    result.print(_table(artifacts, medians))
    for artifact in artifacts:
        if artifact.manifest["accelerator"] == "gpu":
            target, device = artifact.manifest["target"], artifact.manifest["parity"]["device"]
            result.print(f"{target} ran on: {device}", highlight=False, markup=False)
    result.print(f"Open [bold]{page}[/bold] in a browser.", highlight=False, soft_wrap=True)
    return page


def time_sessions(sessions: Sequence[Session], inputs: Sequence[Mapping[str, np.ndarray]], rounds: int) -> list[float]:
    """Median milliseconds of a frame per session.

    The sessions take turns, so what slows this machine for a while slows all of them alike.
    """
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(_WARM_UP_ROUNDS + rounds):
        for session, frame, durations in zip(sessions, inputs, times, strict=True):
            start = time.perf_counter()
            session.run(frame)
            if turn >= _WARM_UP_ROUNDS:
                durations.append(1000 * (time.perf_counter() - start))
    return [statistics.median(durations) for durations in times]


def _matte(path: Path, network: LoadedNetwork, artifacts: Sequence[Artifact], sessions: Sequence[Session]) -> Mattes:
    picture = load_picture(path)
    by_pytorch = run_network(network, make_inputs(artifacts[0], picture))
    alphas = [matte_picture(a, session, picture) for a, session in zip(artifacts, sessions, strict=True)]
    return Mattes(path.name, picture, from_output(by_pytorch, network.spec.image, picture.shape), alphas)


def _table(artifacts: Sequence[Artifact], medians: Sequence[float]) -> Table:
    table = Table(title=f"{NETWORK}: errors against PyTorch, times on this machine")
    for heading in ("target", "precision"):
        table.add_column(heading)
    for heading in ("size", "ops", "max error", "MAD", "ms here"):
        table.add_column(heading, justify="right")
    for artifact, median in zip(artifacts, medians, strict=True):
        manifest = artifact.manifest
        table.add_row(
            manifest["target"],
            manifest["precision"],
            format_bytes(sum(file["bytes"] for file in manifest["files"])),
            str(manifest["cost"]["ops"]),
            format_error(manifest["parity"]["max_abs"]),
            format_error(manifest["parity"]["mad"]),
            f"{median:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
