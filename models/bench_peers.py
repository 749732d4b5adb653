"""Our artifacts against what other converters make: ``python -m models.bench_peers`` prints the table.

With ``--write`` it goes into ``docs/results.md`` too, between the two marks. The peers' files are those of
``../shared/peers``. Both sides run in one process, in turns (``models/time_in_turns.py``); the errors are those of
our files, in their own runtime, against PyTorch on every photograph of ``eval_natural``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.formats.ncnn import converter
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.images import list_pictures
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, judge_files, make_cases
from mobile_matting_export.targets import find_target
from models.time_in_turns import Ratio, open_call, ratio, time_in_turns
from models.training.between_marks import put_between

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
_NOTE = """\
Ratio: geometric mean over {rounds} rounds of our CPU time over the peer's in the same round, float32, one thread, in
turns in one process; interval: bootstrap over rounds; below 1 ours is faster. ms: medians, ours / the peer's, of this
machine only. Peer: the fastest float file kept; on x86 an fp16 file computes in float32 too. Error: largest
difference of alpha from PyTorch's on every photograph of `eval_natural` (a network with a state sees each twice).
MB: 1e6 bytes, fp32. What misses its goal is bold. The weights of ldn_fb and modnet are random."""
BEGIN, END = "<!-- peers: made by models/bench_peers.py -->", "<!-- end of peers -->"


@dataclass(frozen=True)
class Goal:
    """What is wanted: our time over the best peer's in each format, the largest error, and what a file may be.

    ``parameters`` and ``megabytes`` (1e6 bytes) are of the TFLite file in fp32; ``transposes`` are TRANSPOSE operators.
    """

    tflite: float
    ncnn: float
    error: float
    parameters: int | None = None
    megabytes: float | None = None
    transposes: int | None = None


@dataclass(frozen=True)
class Row:
    """A network, the file of its weights under ``../shared`` and its peers' folder there."""

    network: str
    size: int
    weights: str
    peers: str
    goal: Goal


# golden files hold random weights: they tell the speed, and the error of an unkind network
ROWS = (
    Row(
        "portraitnet_video",
        224,
        "weights/portraitnet_video/portraitnet_video_fp16.pt",
        "portraitnet_video",
        Goal(0.33, 0.40, 1e-4, parameters=75_000, megabytes=0.42),
    ),
    Row("mmnet", 256, "weights/mmnet/MMNet_1.0_887000.safetensors", "mmnet", Goal(0.52, 0.85, 1e-4, megabytes=0.80)),
    Row("segmatting", 256, "weights/segmatting/ckpt_lastest.pth", "segmatting", Goal(0.75, 0.92, 2e-4, megabytes=3.3)),
    Row("ldn_fb", 256, "networks/ldn_fb.safetensors", "ldn_fb256", Goal(0.82, 0.90, 1e-4)),
    Row("modnet", 256, "networks/modnet.safetensors", "modnet256", Goal(0.97, 1.0, 5e-4, transposes=0)),
)


@dataclass(frozen=True)
class Rival:
    """The fastest peer of one format: its name, its median and ours in ms of CPU time, and our time over its own."""

    name: str
    milliseconds: float
    ours: float
    ratio: Ratio


@dataclass(frozen=True)
class Measured:
    """One row of the table. ``errors`` and ``rivals`` are by format; ``parameters`` are those left in the file."""

    row: Row
    rounds: int
    pictures: int
    rivals: dict[str, Rival]
    errors: dict[str, float]
    parameters: int
    megabytes: float
    ncnn_megabytes: float
    transposes: int


@one_thread()
def measure(row: Row, shared: Path, rounds: int, pictures: Path) -> Measured:
    """Convert, verify and time one network, in float32 on one thread."""
    with tempfile.TemporaryDirectory(prefix="mmexport-peers-") as scratch:
        network = load_row(row, shared, Path(scratch))
        targets = [find_target("tflite-cpu"), find_target("ncnn-cpu")]
        made = convert_network(network, Job(targets, Path(scratch) / "ours", precision="fp32"))
        artifacts = dict(zip(("tflite", "ncnn"), made, strict=True))
        cases = make_cases(network, pictures)
        rivals = {}
        for name, artifact in artifacts.items():
            files = find_peers(shared / "peers" / row.peers, name)
            if not files and name == "ncnn":
                files = {"pnnx.fp32 (made here)": convert_with_pnnx(network, Path(scratch))}
            rivals[name] = _compare(artifact.files[0], files, cases[0], rounds)
        tflite, ncnn = (artifact.manifest for artifact in made)
        return Measured(
            row,
            rounds,
            len(cases),
            rivals,
            {name: _largest_error(artifact, cases) for name, artifact in artifacts.items()},
            tflite["cost"]["params"],
            _megabytes(tflite),
            _megabytes(ncnn),
            tflite["cost"]["ops_by_type"].get("TRANSPOSE", 0),
        )


def load_row(row: Row, shared: Path, scratch: Path) -> LoadedNetwork:
    """The network with the row's weights; a golden file's are taken out of it first, into ``scratch``."""
    weights = shared / row.weights
    if weights.parent.name == "networks":
        golden, weights = weights, scratch / weights.name
        with safe_open(golden, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith("state/")]  # noqa: SIM118 - it is no mapping
            save_file({name.removeprefix("state/"): file.get_tensor(name) for name in names}, weights)
    return load_network(row.network, weights, (row.size, row.size))


def find_peers(folder: Path, name: str) -> dict[str, Path]:
    """Name -> file of the float peers in a format, fp32 where any is kept, else fp16 (float32 arithmetic on x86)."""
    suffix = "tflite" if name == "tflite" else "param"
    for precision in ("fp32", "fp16"):
        found = sorted(folder.glob(f"*.{precision}.{suffix}"))
        if found:
            return {file.stem: file for file in found}
    return {}


def convert_with_pnnx(network: LoadedNetwork, folder: Path) -> Path:
    """What pnnx makes of the network as published, without our rewrites, where the peers' own file is not kept."""
    examples = network.examples()
    # of the captured graph: a module that is registered twice makes pnnx write layers that ncnn does not know
    graph = capture(network.module, examples)
    with torch.no_grad():
        traced = torch.jit.trace(graph, tuple(examples.values()), check_trace=False)
        torch.jit.save(traced, folder / "peer.pt")
    param, weights = converter.convert(folder / "peer.pt", [tuple(example.shape) for example in examples.values()])
    weights.replace(folder / "peer.bin")
    return param.replace(folder / "peer.param")


def _compare(ours: Path, peers: dict[str, Path], case: Case, rounds: int) -> Rival:
    image = np.concatenate([value[0] for value in case.inputs.values()])
    if ours.suffix == ".param":  # ours is called .ncnn.param and .ncnn.bin
        ours = ours.with_suffix(".param")
    times = time_in_turns({name: open_call(file, image) for name, file in {"": ours, **peers}.items()}, rounds)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    best = min(peers, key=lambda name: medians[name])
    return Rival(best, medians[best], medians[""], ratio(times[""], times[best]))


def _largest_error(artifact: Artifact, cases: Sequence[Case]) -> float:
    target = find_target(artifact.manifest["target"])
    verdict, _ = judge_files(target.format, artifact.files, "cpu", cases, target.limits["fp32"])
    return verdict.stats.max_abs


def _megabytes(manifest: dict) -> float:
    return sum(entry["bytes"] for entry in manifest["files"]) / 1e6


def render(measured: Sequence[Measured]) -> str:
    """The figures as markdown, each with its goal; what misses it is bold."""
    columns = (
        *("network", "tflite-cpu / best peer (95 %)", "goal", "ms", "peer", "ncnn-cpu / pnnx (95 %)", "goal", "ms"),
        *("peer", "parameters", "TFLite MB", "TRANSPOSE", "ncnn MB", "max error, TFLite", "max error, ncnn", "goal"),
    )
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(_cells(one))} |" for one in measured]
    rounds = ", ".join(map(str, sorted({one.rounds for one in measured})))
    return "\n".join([*lines, "", _NOTE.format(rounds=rounds)])


def _cells(one: Measured) -> list[str]:
    goal, tflite, ncnn = one.row.goal, one.rivals["tflite"], one.rivals["ncnn"]
    return [
        f"`{one.row.network}` {one.row.size}",
        *(_ratio(tflite.ratio, goal.tflite), f"{goal.tflite:.2f}", _times(tflite), tflite.name),
        *(_ratio(ncnn.ratio, goal.ncnn), f"{goal.ncnn:.2f}", _times(ncnn), ncnn.name),
        _limited(f"{one.parameters:,}", one.parameters, goal.parameters, f"{goal.parameters or 0:,}"),
        _limited(f"{one.megabytes:.3f}", one.megabytes, goal.megabytes, f"{goal.megabytes or 0:g}"),
        _limited(str(one.transposes), one.transposes, goal.transposes, "0"),
        f"{one.ncnn_megabytes:.3f}",
        *(_bold(f"{one.errors[name]:.1e}", one.errors[name] > goal.error) for name in ("tflite", "ncnn")),
        f"{goal.error:.0e}",
    ]


def _ratio(found: Ratio, goal: float) -> str:
    return _bold(f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})", found.value > goal)


def _times(rival: Rival) -> str:
    return f"{rival.ours:.2f} / {rival.milliseconds:.2f}"


def _limited(text: str, value: float, most: float | None, written: str) -> str:
    return text if most is None else f"{_bold(text, value > most)} (goal {written})"


def _bold(text: str, missed: bool) -> str:
    return f"**{text}**" if missed else text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--images", type=Path, help="photographs to measure the error on; default: all of eval_natural")
    parser.add_argument("--network", action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=200, help="of timing")
    parser.add_argument("--write", action="store_true", help="into docs/results.md, too")
    given = parser.parse_args(arguments)
    if given.rounds < 2:
        parser.error("--rounds must be 2 or more: an interval needs two")
    rows = [row for row in ROWS if not given.network or row.network in given.network]
    if not rows:
        parser.error(f"no such network; known: {', '.join(row.network for row in ROWS)}")
    if given.write and len(rows) < len(ROWS):
        parser.error("--write is for the whole table: drop --network")
    pictures = given.images or given.shared / "data" / "dev" / "eval_natural"
    list_pictures(pictures)  # a missing folder is said before minutes of work
    measured = []
    for row in rows:
        measured.append(measure(row, given.shared, given.rounds, pictures))
        print(f"| {' | '.join(_cells(measured[-1]))} |", file=sys.stderr)
    table = f"## Beside other converters\n\n{render(measured)}"
    print(table)
    if given.write:
        PAGE.write_text(put_between(PAGE.read_text(), BEGIN, END, table))


if __name__ == "__main__":
    main()
