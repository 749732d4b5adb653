"""The published tables again, from our own training: ``python -m models.results`` prints them.

With ``--write`` they go into ``docs/results.md`` too, between the two marks; what is said around them is
written by people. The first table is Fast Deep Matting's (``models/ldn_fb/table.py``), the second MMNet's
accuracy rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.contestant import network_contestant
from mobile_matting_export.data_set import read_data_set
from mobile_matting_export.evaluate import evaluate, summarize
from mobile_matting_export.network import load_network
from mobile_matting_export.one_thread import one_thread
from models.ldn_fb.table import measure_table, render
from models.training.between_marks import put_between

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- tables: made by models/results.py -->", "<!-- end of tables -->"
LDN = ROOT / "models" / "ldn_fb" / "baselines" / "ldn_128x128.safetensors"

# arXiv 1904.03816: 300 test images of the DAPM set, at 800x600
MMNET_PAPER = {
    "mmnet": {"grad_mmnet": 2.93e-3, "mad": 2.48e-2},
    "mmnet_075": {"grad_mmnet": 2.99e-3, "mad": 2.65e-2},
    "mmnet_050": {"grad_mmnet": 3.17e-3, "mad": 2.83e-2},
}
_MMNET_COLUMNS = (("grad_mmnet", "gradient error x1e-3", 1e3, 2), ("mad", "MAD x1e-2", 1e2, 2))


def measure_mmnet(data: Path, names: Sequence[str] = tuple(MMNET_PAPER)) -> dict[str, dict[str, Any]]:
    """Figures by network name, of those that have bundled weights, scored at the truths' own size."""
    trained = [name for name in names if bundled_weights(name)]
    if not trained:
        return {}
    with one_thread():
        contestants = [network_contestant(load_network(name)) for name in trained]
        evaluation = evaluate(contestants, read_data_set(data), worst=0)
    return {name: row["metrics"] for name, row in zip(trained, summarize(evaluation), strict=True)}


def mmnet_table(measured: dict[str, dict[str, Any]], data: str) -> str:
    """The rows as markdown, the paper's beside ours."""
    titles = [f"{title}, {of}" for _, title, *_ in _MMNET_COLUMNS for of in ("paper", "ours (95 %)")]
    lines = [f"| network | {' | '.join(titles)} |", "|---|" + "---|" * len(titles)]
    for name, paper in MMNET_PAPER.items():
        cells = []
        for metric, _, factor, digits in _MMNET_COLUMNS:
            cells += [f"{paper[metric] * factor:.{digits}f}", _ours(measured.get(name), metric, factor, digits)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Ours: `{data}`, closed-form mattes around human masks; the paper's: 300 other photographs at 800x600, so "
            "pictures and truths are not the same.",
        ]
    )


def _ours(figures: dict[str, Any] | None, metric: str, factor: float, digits: int) -> str:
    if figures is None:
        return "not trained"
    low, high = (f"{end * factor:.{digits}f}" for end in figures[metric]["ci95"])
    return f"{figures[metric]['mean'] * factor:.{digits}f} ({low}-{high})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--ldn", type=Path, default=LDN, help="weights of the light dense network alone")
    parser.add_argument("--rounds", type=int, default=400, help="of timing")
    parser.add_argument("--write", action="store_true", help="into docs/results.md, too")
    given = parser.parse_args(arguments)
    soft = given.data / "dev" / "eval_natural_soft"
    first = render(measure_table(given.data, given.ldn, bundled_weights("ldn_fb"), given.rounds))
    second = mmnet_table(measure_mmnet(soft), soft.name)
    tables = f"## Fast Deep Matting, table 1\n\n{first}\n\n## MMNet, accuracy\n\n{second}"
    print(tables)
    if given.write:
        PAGE.write_text(put_between(PAGE.read_text(), BEGIN, END, tables))


if __name__ == "__main__":
    main()
