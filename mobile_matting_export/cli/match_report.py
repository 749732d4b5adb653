"""Find in a bench report the latencies of artifacts: by the sha256 of their files, whatever they are called there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.cli.bench_jobs import files_sha256
from mobile_matting_export.errors import UsageError
from mobile_matting_export.read_facts import read_facts
from mobile_matting_export.trade_off import DeviceLatencies, Latency


def match_report(
    report: Mapping[str, Any], source: str, artifacts: Sequence[Artifact], note: Callable[[str], None]
) -> DeviceLatencies:
    """The part of a report that is about ``artifacts``; what is missing and what is left out is told to ``note``.

    Args:
        report: schema mmexport.bench/1.
        source: what to call it.
        artifacts: whose files are looked for.
        note: gets a sentence for each.

    Raises:
        UsageError: it measured none of them.
    """
    results: list[Mapping[str, Any]] = report["results"]
    sums = [files_sha256(artifact.manifest) for artifact in artifacts]
    made_for = [read_facts(artifact).accelerator for artifact in artifacts]
    found = [
        _choose([result for result in results if result.get("sha256") == sha256], artifact.title, accelerator)
        for artifact, sha256, accelerator in zip(artifacts, sums, made_for, strict=True)
    ]
    strangers = [result for result in results if result.get("sha256") not in sums]
    if not any(found):
        held = ", ".join(f"{_title(one)} (sha256 {str(one.get('sha256'))[:12]})" for one in strangers) or "nothing"
        raise UsageError(
            f"{source} measured other files than those of {', '.join(str(one.folder) for one in artifacts)}: it holds "
            f"{held}; measure these with `mmexport bench`, or name the artifacts of that report"
        )
    older = {_title(one) for one in strangers}
    for artifact, result in zip(artifacts, found, strict=True):
        if result is None:
            changed = ": the file of this name in it has other bytes" if artifact.title in older else ""
            note(f"{source} has no latency of {artifact.folder}{changed}")
    latencies = tuple(
        None if result is None else _latency(result, accelerator)
        for result, accelerator in zip(found, made_for, strict=True)
    )
    for artifact, result, accelerator in zip(artifacts, found, made_for, strict=True):
        if result is not None and (elsewhere := _elsewhere(result, accelerator)):
            note(f"{source}: {artifact.folder} {elsewhere}")
    for stranger in strangers:
        note(f"left out of {source}: {_title(stranger)}, whose files are none of those named")
    told = [str(words) for one in found if one is not None for words in one.get("warnings") or ()]
    return DeviceLatencies(
        name_device(report["device"]),
        source,
        str(report.get("date") or ""),
        latencies,
        tuple(dict.fromkeys(told)),
    )


def name_device(device: Mapping[str, Any]) -> str:
    """What people call it: ``host, AMD EPYC 9V74``, ``Pixel 8, serial 38091FDJH, Tensor G3``."""
    known = {key: str(value) for key, value in device.items() if value not in (None, "", "unknown")}
    if known.get("serial") == "host":
        return ", ".join(["host", *([known["soc"]] if "soc" in known else [])])
    parts = [known.get("model", ""), f"serial {known['serial']}" if "serial" in known else "", known.get("soc", "")]
    return ", ".join(filter(None, parts)) or "unknown device"


def _choose(same: Sequence[Mapping[str, Any]], title: str, accelerator: str) -> Mapping[str, Any] | None:
    """The artifact's result among those of its bytes; None where there is none.

    The same bytes may have been measured under two targets. What did the work decides the time, so the artifact's own
    accelerator comes first, and of those the result of its title.
    """
    return max(
        same,
        key=lambda result: (result.get("accelerator") == accelerator, result.get("title") == title),
        default=None,
    )


def _elsewhere(result: Mapping[str, Any], accelerator: str) -> str:
    """That it was timed on another accelerator than it is made for; empty where it was not."""
    ran = result.get("accelerator")
    if ran is None or ran == accelerator:
        return ""
    return f"was timed on the {ran}, but is made for the {accelerator}: this is not the time of its target"


def _latency(result: Mapping[str, Any], accelerator: str) -> Latency:
    from android_bench.gate import PASS, judge_result
    from android_bench.stats import summarize

    # as the gate does: from the launches, the only part of a report that was checked when it was read
    summary = summarize(result.get("launches") or [])
    verdict = judge_result(result, None)
    return Latency(
        None if summary is None else summary.p50,
        None if summary is None else summary.p90,
        f"{result.get('accelerator', '?')} x{result.get('threads', '?')}",
        "frames" if summary is None else summary.p90_of,
        (*filter(None, [_elsewhere(result, accelerator)]), *(() if verdict.outcome == PASS else verdict.reasons)),
    )


def _title(result: Mapping[str, Any]) -> str:
    return str(result.get("title") or result.get("artifact") or "a file without a name")
