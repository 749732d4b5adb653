"""What int8 keeps and gains: ``python -m models.measure_int8`` prints the table.

With ``--write`` it goes into ``docs/results.md`` too, between the two marks. Quality is measured on photographs that
neither the ranges nor the search saw, time in turns with other converters' float files (``models/time_in_turns.py``),
flicker on a sequence.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.data_set import load_truth, read_data_set
from mobile_matting_export.errors import ConversionError, QualityError
from mobile_matting_export.images import from_output, list_pictures, load_picture, to_input
from mobile_matting_export.int8_wish import Int8Wish
from mobile_matting_export.metrics import dtssd
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, first_states, judge_files, make_frames, run_frame
from mobile_matting_export.quantization.budget import Budget, parse_budget
from mobile_matting_export.quantization.measure_stability import run_film
from mobile_matting_export.quantization.score import Score, score_mattes
from mobile_matting_export.targets import find_target
from models.bench_peers import find_peers
from models.int8_table import Flicker, Goal, Measured, Missing, Row, cells, render
from models.time_in_turns import open_call, ratio, time_in_turns
from models.training.between_marks import put_between

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- int8: made by models/measure_int8.py -->", "<!-- end of int8 -->"
TARGETS = ("tflite-cpu", "ncnn-cpu")
_PICTURES = 20

# the first budget of each row is narrower than its goal: calibration pictures are easier for some networks (mmnet of
# ours has seen their like) than eval_natural, by up to a third in MAD and 4 dB in the worst picture of segmatting
ROWS = (
    Row(
        "mmnet, published weights",
        "mmnet",
        256,
        "weights/mmnet/MMNet_1.0_887000.safetensors",
        "mmnet",
        ("mad=0.0012,psnr=30", "mad=0.002,psnr=28"),
        Goal(0.0015, 30, {"tflite-cpu": 0.70, "ncnn-cpu": 0.85}),
    ),
    Row(
        "mmnet, ours",
        "mmnet",
        256,
        None,
        "mmnet",
        ("mad=0.0011,psnr=30", "mad=0.002,psnr=28"),
        Goal(0.0015, 30, {"tflite-cpu": 0.70, "ncnn-cpu": 0.85}),
    ),
    Row(
        "segmatting",
        "segmatting",
        256,
        "weights/segmatting/ckpt_lastest.pth",
        "segmatting",
        ("mad=0.003,psnr=32", "mad=0.006,psnr=25"),
        Goal(0.004, 28, {"tflite-cpu": 0.95, "ncnn-cpu": 0.90}),
    ),
    Row(
        "portraitnet_video",
        "portraitnet_video",
        224,
        "weights/portraitnet_video/portraitnet_video_fp16.pt",
        "portraitnet_video",
        ("mad=0.002,psnr=29", "mad=0.004,psnr=25"),
        Goal(0.0025, 28, {"tflite-cpu": 0.35}),
    ),
    Row(
        "ldn_fb, ours",
        "ldn_fb",
        128,
        None,
        "ldn_fb128",
        ("mad=0.0025,psnr=35", "mad=0.004,psnr=32"),
        Goal(0.003, 35, {"tflite-cpu": 0.45, "ncnn-cpu": 0.60}),
    ),
)


@dataclass(frozen=True)
class Made:
    """An artifact, the budget that it holds, and the seconds of its search: of the clock, and of the processor."""

    artifact: Artifact
    budget: Budget
    seconds: float
    cpu_seconds: float


@one_thread()
def measure(row: Row, target: str, shared: Path, rounds: int, tune_minutes: float | None = None) -> Measured | Missing:
    """Make the int8 artifact of a row for one target; score and time it. What cannot be made says why."""
    if "int8" not in find_target(target).limits:
        return Missing(row, target, "int8 is not offered there")
    network = load_network(row.network, row.weights and shared / row.weights, (row.size, row.size))
    data = shared / "data" / "dev"
    with tempfile.TemporaryDirectory(prefix="mmexport-int8-") as scratch:
        try:
            made = _make(network, target, _wishes(row, data / "calib" / "eg1800", tune_minutes), Path(scratch))
        except (QualityError, ConversionError) as error:
            return Missing(row, target, str(error))
        manifest = made.artifact.manifest
        cases = _cases(network, data / "eval_natural" / "eg1800")
        score = _score(made.artifact, cases)
        peer, times = _time(made.artifact, shared / "peers" / row.peers, cases[0], rounds)
        return Measured(
            row,
            target,
            str(made.budget),
            manifest["quantization"],
            _PICTURES,
            score,
            made.budget.use(score),
            peer,
            ratio(times[""], times[peer]),
            float(np.median(times[""])),
            float(np.median(times[peer])),
            rounds,
            sum(entry["bytes"] for entry in manifest["files"]),
            _flicker(network, made.artifact, data / "sequence" / "s0"),
            made.seconds,
            made.cpu_seconds,
        )


def _wishes(row: Row, calibration: Path, tune_minutes: float | None) -> list[Int8Wish]:
    return [Int8Wish(calibration, parse_budget(budget), tune_minutes=tune_minutes) for budget in row.budgets]


def _make(network: LoadedNetwork, target: str, wishes: Sequence[Int8Wish], folder: Path) -> Made:
    """By the first wish that can be held; without a cache, so that the time is that of the whole search."""
    *goals, widest = wishes
    for wish in goals:
        with contextlib.suppress(QualityError):
            return _search(network, target, wish, folder)
    return _search(network, target, widest, folder)


def _search(network: LoadedNetwork, target: str, wish: Int8Wish, folder: Path) -> Made:
    begun, spent = time.monotonic(), _cpu_seconds()
    (artifact,) = convert_network(network, Job([find_target(target)], folder, precision="int8", int8=wish))
    return Made(artifact, wish.budget, time.monotonic() - begun, _cpu_seconds() - spent)


def _cpu_seconds() -> float:
    """Of this process and of those that it started: ncnn runs in one of its own."""
    return sum(os.times()[:4])


def _cases(network: LoadedNetwork, folder: Path) -> list[Case]:
    pictures = list_pictures(folder)[:_PICTURES]
    return [case for path in pictures for case in make_frames(network, path.name, load_picture(path))]


def _score(artifact: Artifact, cases: Sequence[Case]) -> Score:
    """A state that is fed back is the artifact's own."""
    target = find_target(artifact.manifest["target"])
    _, mattes = judge_files(target.format, artifact.files, "cpu", cases, target.limits["int8"])
    return score_mattes([case.name for case in cases], [case.alpha for case in cases], mattes)


def _time(artifact: Artifact, folder: Path, case: Case, rounds: int) -> tuple[str, dict[str, list[float]]]:
    """The fastest float peer of any format, and milliseconds of it and of ours, called ``""``, one a round."""
    peers = {name: file for kind in ("tflite", "ncnn") for name, file in find_peers(folder, kind).items()}
    image = np.concatenate([value[0] for value in case.inputs.values()])
    times = time_in_turns(
        {name: open_call(file, image) for name, file in {"": artifact.files[0], **peers}.items()}, rounds
    )
    return min(peers, key=lambda name: float(np.median(times[name]))), times


def _flicker(network: LoadedNetwork, artifact: Artifact, folder: Path) -> Flicker:
    """The dtSSD of int8 against float, and of each against the truth; states are fed back, each side its own."""
    spec = network.spec.image
    (clip,) = read_data_set(folder)
    frames = clip.frames
    inputs = [to_input(load_picture(frame.picture), spec, network.size) for frame in frames]
    truths = [load_truth(frame.truth) for frame in frames]
    feedback, first = {state.name: state.source for state in network.spec.state}, first_states(network)
    in_float = run_film(lambda given: run_frame(network, given), inputs, first, feedback)
    opened = find_target(artifact.manifest["target"]).format.open(artifact.files, "cpu")
    with contextlib.closing(opened) as session:
        in_int8 = run_film(session.run, inputs, first, feedback)

    def to_truth(mattes: Sequence[np.ndarray]) -> float:
        full = [from_output(matte[None, None], spec, truth.shape) for matte, truth in zip(mattes, truths, strict=True)]
        return dtssd(full, truths)

    return Flicker(len(frames), dtssd(in_int8, in_float), to_truth(in_int8), to_truth(in_float))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", action="append", metavar="NAME", help="rows of this network only; may be repeated")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    parser.add_argument("--tune", type=float, metavar="MINUTES", help="of tuning for each artifact; default: none")
    parser.add_argument("--rounds", type=int, default=100, help="of timing")
    parser.add_argument("--write", action="store_true", help="into docs/results.md, too")
    given = parser.parse_args(arguments)
    if given.rounds < 2:
        parser.error("--rounds must be 2 or more: an interval needs two")
    rows = [row for row in ROWS if not given.only or row.network in given.only]
    if not rows:
        parser.error(f"no such network; known: {', '.join(dict.fromkeys(row.network for row in ROWS))}")
    if given.write and (given.only or given.target):
        parser.error("--write is for the whole table: drop --only and --target")
    if given.write and not {BEGIN, END} <= set(PAGE.read_text().splitlines()):  # said before an hour of work
        parser.error(f"{PAGE} lacks the lines {BEGIN} and {END}: add them where the table belongs")
    found: list[Measured | Missing] = []
    for row in rows:
        for target in given.target or TARGETS:
            found.append(measure(row, target, given.shared, given.rounds, given.tune))
            print(f"| {' | '.join(cells(found[-1]))} |", file=sys.stderr)
    table = f"## int8\n\n{render(found)}"
    print(table)
    if given.write:
        PAGE.write_text(put_between(PAGE.read_text(), BEGIN, END, table))


if __name__ == "__main__":
    main()
