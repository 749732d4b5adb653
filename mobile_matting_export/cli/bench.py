"""``mmexport bench``: latency on a phone, or on this computer, that can be defended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mobile_matting_export.cli.bench_jobs import find_artifacts
from mobile_matting_export.cli.common import Output, output_options


@click.command()
@click.argument("artifact", nargs=-1)
@click.option(
    "--device",
    "-d",
    multiple=True,
    help="Serial of the phone as `adb devices` has it, or host for this computer; several: at once.",
)
@click.option("--all-devices", is_flag=True, help="Every phone that adb sees; one that cannot be used fails (code 6).")
@click.option("--min-fps", type=click.FloatRange(min=0, min_open=True), help="Judge: frames a second to reach.")
@click.option(
    "--pre-post-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Milliseconds of each frame that your application needs beside the network.",
)
@click.option(
    "--accelerator",
    type=click.Choice(["cpu", "gpu"]),
    help="What has to do the work; default: what each artifact was made for.",
)
@click.option("--threads", type=click.IntRange(1, 64), help="CPU threads; default: 4 on a phone, 1 on this computer.")
@click.option(
    "--launches", type=click.IntRange(5, 1000), default=7, show_default=True, help="Starts of the runner to judge by."
)
@click.option("--runs", type=click.IntRange(min=1), help="Frames a launch at least; default: 50, on this computer 20.")
@click.option("--sustained", type=click.FloatRange(min=1), help="Then run so many seconds at 30 Hz, minute by minute.")
@click.option(
    "--cooldown",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="Seconds to wait at most for a cool phone.",
)
@click.option(
    "--clocks",
    type=click.Choice(["as-they-are", "fixed"]),
    default="as-they-are",
    show_default=True,
    help="fixed: Android's fixed-performance mode, where the phone has it.",
)
@click.option(
    "--alpha",
    type=click.Choice(["auto", "check", "skip"]),
    default="auto",
    show_default=True,
    help="Compare the device's alpha with PyTorch's; auto: on phones, where torch is installed.",
)
@click.option("--runner", help="The runner's binary, or a folder of them; default: MMEXPORT_RUNNERS, then the cache.")
@click.option(
    "--runner-name", type=click.Choice(["tflite", "litert", "ncnn"]), help="Which runner, where the file does not tell."
)
@click.option("--adb-server", help="host:port of an adb server; default: adb's own environment variables.")
@click.option(
    "--report",
    help="Write the report (JSON) here. One phone: a file; several phones: a folder, or a name with {device} in it. "
    "What is there as the other kind is refused before anything is measured.",
)
@click.option("--junit", help="Write JUnit XML here.")
@click.option("--history", help="Append a line per result (JSON lines) to this file; `mmexport history` plots it.")
@click.option("--markdown", help="Write a summary for a CI page here.")
@click.option(
    "--output",
    "-o",
    "output_folder",
    default="build",
    show_default=True,
    envvar="MMEXPORT_OUTPUT",
    help="Where artifacts are looked for when none is named.",
)
@output_options
def bench(artifact: tuple[str, ...], device: tuple[str, ...], all_devices: bool, output: Output, **flags: Any) -> None:
    """Measure each ARTIFACT on a phone over adb, or on this computer with `--device host`.

    ARTIFACT is a folder made by `mmexport convert`; none: all under the output folder, in turns.
    A number that cannot be defended (throttled, noisy, GPU not proved) is inconclusive, exit code 7;
    with --min-fps a miss is exit code 5. An alpha that is not the network's is exit code 4.

    Several phones are measured at the same time, one report each: `--report FOLDER` writes FOLDER/SERIAL.json.
    The exit code is the worst: a lost phone (6), then a wrong alpha, a miss, an inconclusive number.

    \b
    Examples:
      mmexport bench build/mmnet/tflite-gpu-fp16 --min-fps 30 --report bench.json
      mmexport bench --device host --min-fps 30
      mmexport bench --all-devices --min-fps 30 --report reports
    """
    from android_bench.adb import find_phone
    from android_bench.gate import Budget
    from android_bench.judged import judge_report
    from android_bench.keep_history import append_history, history_lines
    from android_bench.report import forget_report
    from mobile_matting_export.cli.bench_fleet import bench_on_fleet
    from mobile_matting_export.cli.bench_output import finish
    from mobile_matting_export.cli.bench_run import run_bench
    from mobile_matting_export.cli.place_report import PLACE, report_path
    from mobile_matting_export.errors import UsageError

    budget = None if flags["min_fps"] is None else Budget(flags["min_fps"], flags["pre_post_ms"])
    artifacts, left_out = find_artifacts(artifact, Path(flags["output_folder"]))
    for words in left_out:
        output.note(f"left out: {words}")
    serials = tuple(dict.fromkeys(device))
    if all_devices and serials:
        raise UsageError("--all-devices beside --device: name the phones, or take all")
    if all_devices or len(serials) > 1:
        bench_on_fleet(artifacts, serials, flags, budget, output)
        return
    serial = serials[0] if serials else None
    if flags["report"]:
        if serial is None and PLACE in flags["report"]:
            serial = find_phone(None, server=flags["adb_server"])
        # before anything is measured: what cannot be written there would be lost
        path = report_path(flags["report"], serial or "")
        forget_report(path)
        flags["report"] = str(path)
    report = run_bench(artifacts, serial, flags, budget, output)
    if flags["history"]:
        append_history(Path(flags["history"]), history_lines(report, budget))
    finish(output, [judge_report(report, flags["report"] or "this run", budget)], budget, flags, report)
