"""``mmexport gate``: judge stored bench reports, without a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mobile_matting_export.cli.common import Output, output_options


@click.command()
@click.argument("report", nargs=-1, required=True)
@click.option("--min-fps", type=click.FloatRange(min=0, min_open=True), required=True, help="Frames a second to reach.")
@click.option(
    "--pre-post-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Milliseconds of each frame that your application needs beside the network.",
)
@click.option("--junit", help="Write JUnit XML here.")
@click.option("--markdown", help="Write a summary for a CI page here.")
@output_options
def gate(report: tuple[str, ...], min_fps: float, pre_post_ms: float, output: Output, **files: Any) -> None:
    """Judge each REPORT of `mmexport bench` again, from the launches in it.

    Exit code 0 when all pass, 5 when one misses the frame rate, 7 when one is inconclusive, 6 when a
    device was lost, 4 when an alpha was wrong. A missing or foreign report never passes: exit code 2.

    \b
    Example:
      mmexport gate reports/*.json --min-fps 30 --pre-post-ms 4 --junit gate.xml
    """
    from android_bench.gate import Budget
    from android_bench.judged import judge_files, overall
    from mobile_matting_export.cli.bench_output import finish

    budget = Budget(min_fps, pre_post_ms)
    judged = judge_files([Path(path) for path in report], budget)
    verdict = overall(judged)
    result = {
        "min_fps": budget.min_fps,
        "pre_post_ms": budget.pre_post_ms,
        "budget_ms": budget.frame_ms,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "reports": [entry.as_dict() for entry in judged],
    }
    finish(output, judged, budget, files, result)
