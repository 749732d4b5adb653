"""Write the evaluation's page: the table, and the worst pictures to judge with one's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobile_matting_export.composite import composite, parse_background
from mobile_matting_export.matte import DEFAULT_BACKGROUND
from mobile_matting_export.metrics import resize_to
from mobile_matting_export.report.page import render_page, shrink, to_data_uri, to_grey, write_page

if TYPE_CHECKING:  # only named here; evaluate.py brings torch
    from mobile_matting_export.evaluate import Evaluation, Metric, Shown

# longest side in pixels: a person must be able to judge hair
_SHOWN = 400


def write_evaluation_page(path: Path, data: str, evaluation: Evaluation, rows: Sequence[dict[str, Any]]) -> None:
    """Write one self-contained page; the same arguments give the same bytes.

    Args:
        path: the .html file, replaced when it exists.
        data: what was evaluated on, for the heading.
        evaluation: from ``evaluate``.
        rows: from ``summarize``.
    """
    metrics = evaluation.metrics
    values = {
        "data": data,
        "pictures": len(evaluation.names),
        "notes": evaluation.notes,
        "metrics": metrics,
        "has_dtssd": any(metric.name == "dtssd" for metric in metrics),
        "rows": [
            row | {of: _cells(metrics, row[of], of) for of in ("metrics", "difference") if of in row} for row in rows
        ],
        "cases": [_show(case, evaluation.titles) for case in evaluation.worst],
    }
    write_page(path, render_page("evaluation_page.html.j2", values))


def format_figure(metric: Metric, figure: dict[str, Any], of: str = "metrics") -> tuple[str, str]:
    """The mean and its interval in brackets, as people read them; signed where ``of`` is "difference".

    What rounds to nothing is 0 without a sign; a difference that does so with its whole interval has no interval.
    """
    sign = "+" if of == "difference" else ""
    digits = 3 if metric.factor == 1 else 1 + (of == "difference")
    numbers = [value * metric.factor for value in (figure["mean"], *figure["ci95"])]
    mean, low, high = ("0" if round(n, digits) == 0 else f"{n:{sign}.{digits}f}" for n in numbers)
    none = sign and mean == low == high == "0"
    return mean, f"(below {0.5 * 10**-digits:g})" if none else f"({low} to {high})"


def _cells(metrics: Sequence[Metric], figures: dict[str, Any], of: str) -> dict[str, dict[str, Any]]:
    made = {metric.name: format_figure(metric, figures[metric.name], of) for metric in metrics}
    return {
        name: {"text": text, "interval": interval, "images": figures[name]["images"]}
        for name, (text, interval) in made.items()
    }


def _show(case: Shown, titles: Sequence[str]) -> dict[str, Any]:
    picture = shrink(case.picture, _SHOWN)
    behind = parse_background(DEFAULT_BACKGROUND, case.picture.shape)
    return {
        "name": case.name,
        "picture": to_data_uri(picture),
        "truth": to_data_uri(to_grey(shrink(case.truth, _SHOWN))),
        "mattes": [
            {
                "title": title,
                "mad": mad,
                "alpha": to_data_uri(to_grey(shrink(matte, _SHOWN))),
                "error": to_data_uri(draw_error(shrink(matte - case.truth, _SHOWN))),
                "composite": to_data_uri(shrink(_compose(case.picture, matte, behind), _SHOWN)),
            }
            for title, matte, mad in zip(titles, case.mattes, case.mads, strict=True)
        ],
    }


def _compose(
    picture: npt.NDArray[np.uint8], matte: npt.NDArray[np.floating], behind: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    return composite(picture, resize_to(matte, picture.shape[:2]).astype(np.float32), behind)


def draw_error(error: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """uint8 H x W x 3 of a signed error in [-1, 1]: red where positive, blue where negative, black where none."""
    kept, lost = np.clip(error, 0, 1), np.clip(-error, 0, 1)
    # a little green makes both bright enough to be told from black
    return np.stack([to_grey(kept), to_grey(0.35 * (kept + lost)), to_grey(lost)], axis=-1)
