"""Measure a trained model on the development sets and write its figures into its model card.

``python -m models.training.model_card mmnet`` from the project's root writes ``models/mmnet/figures.json``
and replaces the part of ``models/mmnet/README.md`` between the two marks; the rest of the card is
written by people.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.network import load_network
from models.training.evaluate import Score, evaluate, mean

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- figures: made by models/training/model_card.py -->", "<!-- end of figures -->"
# title in the card and factor
METRICS = {
    "iou": ("IoU", 1.0),
    "mad": ("MAD x1e-3", 1e3),
    "mse": ("MSE x1e-3", 1e3),
    "grad_fdm": ("gradient x1e-3", 1e3),
}


@dataclass(frozen=True)
class DevelopmentSet:
    """One folder of pictures with mattes, what a score on it says, and which metrics say it."""

    folder: str
    claim: str
    metrics: tuple[str, ...]


SETS = (
    DevelopmentSet("eval_natural/eg1800", "real photos, human binary masks", ("iou",)),
    DevelopmentSet("eval_natural_soft", "the same photos, closed-form mattes", tuple(METRICS)),
    DevelopmentSet("eval_composite", "synthetic composites of 9 persons, exact mattes", tuple(METRICS)),
    DevelopmentSet("sequence/s0", "30 frames of one person, exact mattes", tuple(METRICS)),
)


def persons(data: Path, folder: str) -> dict[str, str]:
    """For each picture of a folder the person it shows, where that is on record; else the picture."""
    rows = json.loads((data / "provenance.json").read_text())
    mine = [row for row in rows if Path(row["path"]).parent.as_posix() == f"{folder}/image"]
    return {Path(row["path"]).stem: row.get("fg") or row["path"] for row in mine}


def interval(values: list[float], groups: list[str]) -> tuple[float, float]:
    """95 % interval of the mean, by drawing whole groups (persons) 2000 times with replacement."""
    rng = np.random.default_rng(0)
    by_group = [np.array([v for v, g in zip(values, groups, strict=True) if g == one]) for one in sorted(set(groups))]
    draws = rng.integers(0, len(by_group), (2000, len(by_group)))
    means = [np.concatenate([by_group[i] for i in draw]).mean() for draw in draws]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def measure(network: str, data: Path) -> dict[str, Any]:
    """All figures of the bundled weights of ``network``, ready for JSON."""
    path = bundled_weights(network)
    if path is None:
        raise FileNotFoundError(f"models/{network} holds no weights: train them first")
    loaded = load_network(network)
    sets: dict[str, Any] = {}
    for one in SETS:
        scores = evaluate(loaded, data / one.folder)
        known = persons(data, one.folder)
        groups = [known.get(name, name) for name in scores]
        sets[one.folder] = {"images": len(scores), "groups": len(set(groups))} | {
            metric: _figure(metric, scores, groups) for metric in one.metrics
        }
    return {
        "network": network,
        "size": list(loaded.size),
        "parameters": sum(p.numel() for p in loaded.module.parameters()),
        "weights": {
            "file": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        "sets": sets,
    }


def _figure(metric: str, scores: dict[str, Score], groups: list[str]) -> dict[str, Any]:
    figure: dict[str, Any] = {"mean": getattr(mean(scores), metric)}
    if len(set(groups)) > 1:
        figure["ci95"] = interval([getattr(s, metric) for s in scores.values()], groups)
    return figure


def table(figures: dict[str, Any]) -> str:
    """The figures as markdown."""
    weights = figures["weights"]
    lines = [
        f"`{weights['file']}`: {weights['bytes']:,} bytes, {figures['parameters']:,} parameters as float16, "
        f"sha256 `{weights['sha256']}`.",
        "",
        "| set | pictures | says | " + " | ".join(title for title, _ in METRICS.values()) + " |",
        "|---|---|---|" + "---|" * len(METRICS),
    ]
    for one in SETS:
        measured = figures["sets"][one.folder]
        cells = [_cell(measured[m], METRICS[m][1]) if m in measured else "-" for m in METRICS]
        lines.append(f"| `{one.folder}` | {measured['images']} | {one.claim} | " + " | ".join(cells) + " |")
    lines += ["", "In brackets: 95 % interval of the mean, drawn over persons where several pictures show one."]
    return "\n".join(lines)


def _cell(figure: dict[str, Any], factor: float) -> str:
    digits = 3 if factor == 1.0 else 1
    text = f"{figure['mean'] * factor:.{digits}f}"
    if "ci95" in figure:
        low, high = (f"{v * factor:.{digits}f}" for v in figure["ci95"])
        text += f" ({low}-{high})"
    return text


def rewrite_card(card: str, figures: dict[str, Any]) -> str:
    """The card with the part between the marks replaced.

    Raises:
        ValueError: the marks are not in the card.
    """
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the card lacks the lines {BEGIN} and {END}: add them where the figures belong")
    return f"{before}{BEGIN}\n{table(figures)}\n{END}{after}"


def main() -> None:
    """Measure, and write figures.json and the card."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("network", help="name of the network, such as mmnet")
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/dev")
    given = arguments.parse_args()
    folder = ROOT / "models" / given.network
    figures = measure(given.network, given.data)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    card = folder / "README.md"
    card.write_text(rewrite_card(card.read_text(), figures))


if __name__ == "__main__":
    main()
