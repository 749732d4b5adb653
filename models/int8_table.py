"""The table of int8 artifacts as markdown: what each keeps and gains beside its goal, what misses a goal in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_matting_export.quantization.score import Score
from models.time_in_turns import Ratio

MOST_OVERRUN = 1.25
"""Of the budget, on pictures that the search never saw."""

MOST_SHARE = 0.30
"""Of the fp32 file; the weights of layers that stay float come on top."""

_NOTE = """\
Budget: what the mattes may differ from the float network's, on held-out calibration pictures (bold: a wider one,
since the goal cannot be held with enough of the network in int8). Tuning: steps of `--tune`. MAD, worst picture and
share of the budget: on {pictures} photographs of `eval_natural` that neither ranges nor search saw, whole pictures,
in the artifact's own runtime against PyTorch in float32 (a network with a state sees each twice). Latency: geometric
mean over {rounds} rounds of our CPU time over the fastest float artifact of another converter in any format, one
thread, in turns in one process; interval: bootstrap over rounds. ms: medians, ours / the peer's, of this machine only.
File: bytes over those of our fp32 file of the same graph; the goal is {share:.2f} and the float layers' weights on
top. dtSSD over {frames} frames of `sequence`: int8 against float, then each against the true mattes. Search:
seconds of the clock / of the processor. What misses its goal is bold."""


@dataclass(frozen=True)
class Goal:
    """Largest mean error, smallest PSNR of a picture in dB, and by target the time over the best peer's float file."""

    mad: float
    psnr: float
    latency: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """A network with its goal and its budgets, of which the first that can be held is taken.

    ``weights`` lie under ``../shared``, None are those that come with us.
    """

    title: str
    network: str
    size: int
    weights: str | None
    peers: str
    budgets: tuple[str, ...]
    goal: Goal


@dataclass(frozen=True)
class Flicker:
    """dtSSD over a sequence: int8 against float, and each against the true mattes."""

    frames: int
    to_float: float
    int8_to_truth: float
    float_to_truth: float


@dataclass(frozen=True)
class Measured:
    """One row of the table.

    ``budget`` is the one that held; ``quantization`` is the manifest's; ``used`` is the share of the budget that
    ``score`` uses, on ``pictures`` pictures; ``latency`` is ours over that of ``peer``, with both medians in ms; times
    of the search are in seconds.
    """

    row: Row
    target: str
    budget: str
    quantization: Mapping[str, Any]
    pictures: int
    score: Score
    used: float
    peer: str
    latency: Ratio
    ours_ms: float
    peer_ms: float
    rounds: int
    bytes: int
    flicker: Flicker
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Missing:
    """A row without an artifact, and why."""

    row: Row
    target: str
    reason: str


_COLUMNS = (
    *(
        "network",
        "target",
        "budget",
        "tuning",
        "layers in int8",
        "MAD",
        "goal",
        "worst picture",
        "goal",
        "of the budget",
    ),
    *("latency / best float peer (95 %)", "goal", "ms", "peer", "file / fp32", "dtSSD", "search s"),
)


def render(found: Sequence[Measured | Missing]) -> str:
    """The table, what its columns are, why rows are empty, and the plans tried where a goal was missed."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    lines += [f"| {' | '.join(cells(one))} |" for one in found]
    measured = [one for one in found if isinstance(one, Measured)]
    if measured:
        note = _NOTE.format(
            pictures=_all(one.pictures for one in measured),
            rounds=_all(one.rounds for one in measured),
            frames=_all(one.flicker.frames for one in measured),
            share=MOST_SHARE,
        )
        lines += ["", note]
    empty = [f"- `{one.row.title}`, {one.target}: {one.reason}" for one in found if isinstance(one, Missing)]
    if empty:
        lines += ["", "Not made:", "", *empty]
    curves = [curve(one) for one in measured if misses(one)]
    if curves:
        lines += ["", "The trade-off where a goal is missed, on held-out calibration pictures:", "", *curves]
    return "\n".join(lines)


def cells(one: Measured | Missing) -> list[str]:
    """The cells of one row, as many as there are columns."""
    head = [f"{one.row.title} {one.row.size}", one.target]
    if isinstance(one, Missing):
        return [*head, *one.row.budgets[-1:], "not made", *["-"] * (len(_COLUMNS) - len(head) - 2)]
    missed, goal, found = misses(one), one.row.goal, one.quantization
    in_float = len(found["layers_float"])
    latency = f"{one.latency.value:.3f} ({one.latency.low:.3f}-{one.latency.high:.3f})"
    wanted = goal.latency.get(one.target)
    return [
        *head,
        _bold(one.budget, one.budget != one.row.budgets[0]),
        f"{found['tuned']['steps']} steps" if found["tuned"] else "-",
        f"{found['layers_int8']} of {found['layers_int8'] + in_float}",
        _bold(f"{one.score.mad:.5f}", "mad" in missed),
        f"{goal.mad:g}",
        _bold(f"{one.score.psnr:.1f} dB", "psnr" in missed),
        f"{goal.psnr:g} dB",
        _bold(f"{100 * one.used:.0f} %", "budget" in missed),
        _bold(latency, "latency" in missed),
        "-" if wanted is None else f"{wanted:.2f}",
        f"{one.ours_ms:.2f} / {one.peer_ms:.2f}",
        one.peer,
        _bold(f"{one.bytes / found['fp32_bytes']:.2f}", "file" in missed),
        f"{one.flicker.to_float:.2f}; {one.flicker.int8_to_truth:.2f} / {one.flicker.float_to_truth:.2f}",
        f"{one.seconds:.0f} / {one.cpu_seconds:.0f}",
    ]


def misses(one: Measured) -> frozenset[str]:
    """Which goals are missed: ``mad``, ``psnr``, ``budget``, ``latency``, ``file``."""
    goal, found = one.row.goal, one.quantization
    wanted = goal.latency.get(one.target)
    kept = sum(layer["weight_bytes"] for layer in found["layers_float"])
    judged = {
        "mad": one.score.mad > goal.mad,
        "psnr": one.score.psnr < goal.psnr,
        "budget": one.used > MOST_OVERRUN,
        "latency": wanted is not None and one.latency.value > wanted,
        "file": one.bytes > MOST_SHARE * found["fp32_bytes"] + kept,
    }
    return frozenset(name for name, is_missed in judged.items() if is_missed)


def curve(one: Measured) -> str:
    """The plans tried, by layers in float, in one item of a list: what each costs and what it keeps."""
    found = one.quantization
    plans = [
        f"{point['float']} in float, {100 * point['macs_float']:.0f} % of the multiply-adds, "
        f"{point['bytes'] / 1e3:.0f} kB: MAD {_figure(point['mad'], '.5f')}, worst {_figure(point['psnr'], '.1f')} dB"
        + (" (taken)" if point["chosen"] else "")
        for point in sorted(found["points"], key=lambda point: point["float"])
    ]
    return f"- {one.row.title}, {one.target}: {'; '.join(plans) or 'no plan but that of the recipe'}"


def _figure(value: float | None, digits: str) -> str:
    return "?" if value is None else format(value, digits)


def _all(values: Any) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _bold(text: str, missed: bool) -> str:
    return f"**{text}**" if missed else text
