"""Measure a trained model on the development sets and write its figures into its model card.

``python -m models.training.model_card mmnet`` from the project's root writes ``models/mmnet/figures.json``
and replaces the part of ``models/mmnet/README.md`` between the two marks; the rest of the card is
written by people. Weights that are too large for the repository are measured where they were trained:
``python -m models.training.model_card portraitnet --weights build/training/portraitnet_224x224.safetensors``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mobile_matting_export import metrics
from mobile_matting_export.bootstrap import interval
from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.contestant import Contestant, network_contestant
from mobile_matting_export.data_set import Clip, load_truth, read_data_set
from mobile_matting_export.evaluate import Evaluation, evaluate, summarize
from mobile_matting_export.images import content_box, load_picture
from mobile_matting_export.network import load_network
from mobile_matting_export.one_thread import one_thread
from models.training.between_marks import put_between

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- figures: made by models/training/model_card.py -->", "<!-- end of figures -->"
# title in the card and factor
COLUMNS = {
    "iou": ("IoU", 1.0),
    "mad": ("MAD x1e-3", 1e3),
    "mad_band": ("MAD band x1e-3", 1e3),
    "mse": ("MSE x1e-3", 1e3),
    "grad_fdm": ("gradient x1e-3", 1e3),
}
_AT_INPUT = ("iou", "mad", "mse", "grad_fdm")
_WORST_NAMED = 6


@dataclass(frozen=True)
class DevelopmentSet:
    """One folder of pictures with mattes, what a score on it says, and which metrics say it.

    ``scored_at`` is ``truth`` (the truth's own size) or ``input`` (the network's input size, to which the
    truth is averaged: what published tables mostly do).
    """

    name: str
    folder: str
    claim: str
    metrics: tuple[str, ...]
    scored_at: str = "truth"


SETS = (
    DevelopmentSet("eval_natural/eg1800", "eval_natural/eg1800", "real photos, human binary masks", ("iou",)),
    DevelopmentSet("eval_natural_soft", "eval_natural_soft", "the same photos, closed-form mattes", tuple(COLUMNS)),
    DevelopmentSet(
        "eval_natural_soft, at input size", "eval_natural_soft", "the same, scored at input size", _AT_INPUT, "input"
    ),
    DevelopmentSet(
        "eval_composite", "eval_composite", "synthetic composites of 9 persons, exact mattes", tuple(COLUMNS)
    ),
    DevelopmentSet("sequence/s0", "sequence/s0", "30 frames of one person, exact mattes", (*COLUMNS, "dtssd")),
)


def persons(data: Path, folder: str) -> dict[str, str]:
    """For each picture of a folder the person it shows, where that is on record; else the picture."""
    rows = json.loads((data / "provenance.json").read_text())
    mine = [row for row in rows if Path(row["path"]).parent.as_posix() == f"{folder}/image"]
    return {Path(row["path"]).stem: row.get("fg") or row["path"] for row in mine}


def measure(network: str, data: Path, weights: Path | None = None) -> dict[str, Any]:
    """All figures of ``weights`` (default: the bundled ones) of ``network``, ready for JSON."""
    path = weights or bundled_weights(network)
    if path is None:
        raise FileNotFoundError(f"models/{network} holds no weights: train them first")
    loaded = load_network(network, path)
    contestant = network_contestant(loaded)
    sets: dict[str, Any] = {}
    with one_thread():
        for one in SETS:
            clips = read_data_set(data / one.folder)
            if one.scored_at == "input":
                scores = score_at_input_size(contestant, clips)
                sets[one.name] = _describe(scores, list(scores[_AT_INPUT[0]]), one)
                continue
            evaluation = evaluate([contestant], clips, worst=0)
            known = persons(data, one.folder)
            groups = [known.get(name, name) for name in evaluation.names]
            sets[one.name] = _from_evaluation(evaluation, groups, one)
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


def score_at_input_size(contestant: Contestant, clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """``_AT_INPUT`` metrics by picture, of alpha as the network gives it against the truth averaged to its size."""
    scores: dict[str, dict[str, float]] = {name: {} for name in _AT_INPUT}
    for clip in clips:
        for frame in clip.frames:
            picture = load_picture(frame.picture)
            whole = contestant.matte(picture)[1]["alpha"]
            rows, columns = content_box(picture.shape, contestant.image, whole.shape[2:])
            alpha = whole[0, 0, rows, columns]
            truth = cv2.resize(load_truth(frame.truth), alpha.shape[::-1], interpolation=cv2.INTER_AREA)
            for name in _AT_INPUT:
                scores[name][f"{clip.name}/{frame.name}"] = getattr(metrics, name)(alpha, np.asarray(truth))
    return scores


def _describe(scores: dict[str, dict[str, float]], names: list[str], one: DevelopmentSet) -> dict[str, Any]:
    figures = {}
    for metric in one.metrics:
        values = list(scores[metric].values())
        figures[metric] = {"mean": float(np.mean(values)), "ci95": list(interval(values))}
    return {"images": len(names), "groups": len(names)} | figures


def _from_evaluation(evaluation: Evaluation, groups: list[str], one: DevelopmentSet) -> dict[str, Any]:
    (row,) = summarize(evaluation, groups)
    figures = {metric: dict(row["metrics"][metric]) for metric in one.metrics}
    if len(set(groups)) == 1:  # an interval over one person would say nothing about others
        for figure in figures.values():
            del figure["ci95"]
    order = np.argsort(evaluation.scores[0]["mad"])[::-1]
    worst = [evaluation.names[index] for index in order[:_WORST_NAMED]]
    return {"images": row["images"], "groups": len(set(groups))} | figures | {"worst": worst}


def table(figures: dict[str, Any]) -> str:
    """The figures as markdown."""
    weights = figures["weights"]
    lines = [
        f"`{weights['file']}`: {weights['bytes']:,} bytes, {figures['parameters']:,} parameters as float16, "
        f"sha256 `{weights['sha256']}`.",
        "",
        "| set | pictures | says | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for one in SETS:
        measured = figures["sets"][one.name]
        cells = [_cell(measured[m], COLUMNS[m][1]) if m in measured else "-" for m in COLUMNS]
        lines.append(f"| `{one.name}` | {measured['images']} | {one.claim} | " + " | ".join(cells) + " |")
    lines += ["", "In brackets: 95 % interval of the mean, drawn over persons where several pictures show one."]
    film, soft = figures["sets"]["sequence/s0"], figures["sets"]["eval_natural_soft"]
    lines += [
        f"dtSSD on `sequence/s0`: {film['dtssd']['mean']:.2f}. Largest MAD on `eval_natural_soft`: "
        + ", ".join(soft["worst"])
        + "."
    ]
    return "\n".join(lines)


def _cell(figure: dict[str, Any], factor: float) -> str:
    digits = 3 if factor == 1.0 else 1
    text = f"{figure['mean'] * factor:.{digits}f}"
    if "ci95" in figure:
        low, high = (f"{v * factor:.{digits}f}" for v in figure["ci95"])
        text += f" ({low}-{high})"
    return text


def main() -> None:
    """Measure, and write figures.json and the card, or only print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("network", help="name of the network, such as mmnet")
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/dev")
    arguments.add_argument("--weights", type=Path, help="weights to measure (default: the bundled ones)")
    arguments.add_argument("--dry-run", action="store_true", help="print the table instead of writing it")
    given = arguments.parse_args()
    figures = measure(given.network, given.data, given.weights)
    if given.dry_run:
        print(table(figures))
        return
    folder = ROOT / "models" / given.network
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    card = folder / "README.md"
    card.write_text(put_between(card.read_text(), BEGIN, END, table(figures)))


if __name__ == "__main__":
    main()
