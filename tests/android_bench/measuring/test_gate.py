"""What passes, what fails, what neither: from stored reports, and nothing missing or foreign ever passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from android_bench.errors import RequestError
from android_bench.gate import Budget, judge_result, judge_results
from android_bench.judged import judge_files, judge_report, overall
from android_bench.junit import junit_xml
from android_bench.markdown import markdown_summary
from android_bench.report import SCHEMA, ReportUnreadable, forget_report, read_report, write_report

BUDGET = Budget(30)
NOISE = (0.0, 0.2, -0.1, 0.1, -0.2, 0.3, -0.3)


def result(ms: float = 20.0, **changed: Any) -> dict[str, Any]:
    launches = [{"median_ms": ms + noise, "p90_ms": ms + noise + 1, "wall_s": 2.0} for noise in NOISE]
    values = {
        "title": "net tflite-gpu-fp16",
        "artifact": "build/net",
        "accelerator": "gpu",
        "accelerator_proved": True,
        "launches_asked": 7,
        "launches": launches,
        "latency_ms": {"p50": ms, "p90": ms + 1, "ci95": [ms, ms + 2]},
        "fps": 1000 / ms,
    }
    return values | changed


def report(*results: dict[str, Any], **device: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "device": {"serial": "R5CX", "model": "Demo 8", "soc": "SM8550"} | device,
        "results": list(results),
        "gate": None,
    }


def stored(path: Path, *results: dict[str, Any], **device: Any) -> Path:
    write_report(path, report(*results, **device))
    return path


@pytest.mark.parametrize(
    ("ms", "outcome", "code"), [(20, "pass", 0), (31.9, "pass", 0), (32.3, "inconclusive", 7), (36, "fail", 5)]
)
def test_the_budget_is_met_at_p90_not_at_the_middle(ms: float, outcome: str, code: int) -> None:
    verdict = judge_result(result(ms), BUDGET)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)


def test_what_the_application_needs_is_taken_off_the_frame() -> None:
    assert judge_result(result(25), Budget(30, 5)).outcome == "pass"
    verdict = judge_result(result(25), Budget(30, 10))
    assert verdict.outcome == "fail" and "after 10 ms for pre- and post-processing" in verdict.reasons[0]


@pytest.mark.parametrize(("fps", "spent"), [(30, 34), (0, 0), (-1, 0), (30, -1)])
def test_a_budget_of_nothing_is_refused(fps: float, spent: float) -> None:
    with pytest.raises(RequestError):
        Budget(fps, spent)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"accelerator_proved": False}, "nothing proves that the gpu"),
        ({"launches_asked": 8}, "7 launches of 8"),
        ({"launches": []}, "0 launches of 7"),
        ({"launches": None}, "no launch gave a time"),
        ({"refusals": [{"name": "partial-delegation", "text": "the CPU did a part"}]}, "partial-delegation: the CPU"),
        ({"preconditions": ["battery at 41 C"]}, "precondition: battery at 41 C"),
        ({"parity": {"passed": None, "error": "no output file"}}, "no alpha to compare: no output file"),
    ],
)
def test_what_cannot_be_defended_is_inconclusive(changed: dict[str, Any], words: str) -> None:
    verdict = judge_result(result(10, **changed), BUDGET)
    assert verdict.outcome == "inconclusive" and any(words in reason for reason in verdict.reasons)


def test_a_busy_computer_makes_a_miss_inconclusive_and_leaves_a_pass() -> None:
    def busy(ms: float) -> dict[str, Any]:
        return result(ms, launches=[launch | {"cpu_share": 0.4} for launch in result(ms)["launches"]])

    assert judge_result(busy(20), BUDGET).outcome == "pass", "other programs make a time longer, never shorter"
    verdict = judge_result(busy(40), BUDGET)
    assert verdict.outcome == "inconclusive" and "40% of its cores" in verdict.reasons[0]


def test_an_alpha_that_is_garbage_fails_however_fast() -> None:
    parity = {"passed": False, "max_abs": 0.9, "mad": 0.3, "worst": "a.jpg", "limits": {"max_abs": 0.1, "mad": 0.002}}
    verdict = judge_result(result(1, parity=parity), BUDGET)
    assert (verdict.outcome, verdict.verdict, verdict.exit_code) == ("quality", "fail", 4)
    assert "max error 0.9 (limit 0.1)" in verdict.reasons[0]
    nan = judge_result(result(1, parity=parity | {"max_abs": None, "mad": None, "error": "it holds NaN"}), BUDGET)
    assert nan.exit_code == 4 and "it holds NaN" in nan.reasons[0]


def test_without_a_frame_rate_only_what_can_be_defended_counts() -> None:
    assert judge_result(result(500), None).outcome == "pass"
    launches = [launch | {"cpu_share": 0.4} for launch in result(500)["launches"]]
    assert judge_result(result(500, launches=launches), None).outcome == "inconclusive"
    assert "## mmexport bench: measured" in markdown_summary([judge_report(report(result(500)), "r.json", None)], None)
    assert judge_result(result(500, accelerator_proved=False), None).outcome == "inconclusive"


def test_the_gravest_of_a_report_decides() -> None:
    assert judge_results([result(20), result(36)], BUDGET).outcome == "fail"
    mixed = judge_results([result(36), result(20, lost="gone")], BUDGET)
    assert mixed.outcome == "lost" and len(mixed.reasons) == 2
    assert judge_results([], BUDGET).outcome == "inconclusive"


def test_the_stored_summary_is_not_believed() -> None:
    told_fast = result(40) | {"latency_ms": {"p50": 1.0, "p90": 1.0, "ci95": [1.0, 1.0]}}
    assert judge_result(told_fast, BUDGET).outcome == "fail"


FOREIGN = {
    "missing": None,
    "empty": "",
    "text": "no json",
    "list": "[]",
    "other tool": json.dumps({"results": [result(1)]}),
    "other version": json.dumps(report(result(1)) | {"schema": "mmexport.bench/2"}),
    "no device": json.dumps(report(result(1)) | {"device": None}),
    "results no list": json.dumps(report() | {"results": {"a": 1}}),
    "result no object": json.dumps(report() | {"results": ["fast"]}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_missing_or_foreign_report_never_passes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    text = FOREIGN[kind]
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReportUnreadable, match=r"report\.json"):
        read_report(path)
    judged = judge_files([stored(tmp_path / "good.json", result(20)), path], BUDGET)
    assert overall(judged).outcome == "unreadable" and overall(judged).exit_code == 2
    assert overall(judged).verdict == "fail"
    assert junit_xml(judged).count("<error") == 1


def test_a_missing_report_hides_the_worst(tmp_path: Path) -> None:
    judged = judge_files([tmp_path / "none.json", stored(tmp_path / "slow.json", result(40))], BUDGET)
    assert overall(judged).exit_code == 2


def test_a_report_that_says_nothing_of_the_accelerator_does_not_pass() -> None:
    silent = result(20)
    del silent["accelerator_proved"]
    assert judge_result(silent, BUDGET).outcome == "inconclusive"


@pytest.mark.parametrize(
    "damage",
    [
        {"refusals": ["x"]},
        {"refusals": [{"name": 1}]},
        {"launches_asked": "seven"},
        {"launches": "none"},
        {"launches": [{"median_ms": "fast"}]},
        {"parity": {"passed": False, "max_abs": "big"}},
        {"preconditions": [1]},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_result_is_unreadable_and_hides_no_other(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = stored(tmp_path / "odd.json", result(20) | damage)
    with pytest.raises(ReportUnreadable, match="is damaged: result 1"):
        read_report(path)
    judged = judge_files([path, stored(tmp_path / "good.json", result(20))], BUDGET)
    assert [report.entries[0].verdict.outcome for report in judged] == ["unreadable", "pass"]


def test_an_older_report_is_forgotten_and_other_files_are_not(tmp_path: Path) -> None:
    older, other = stored(tmp_path / "r.json", result(20)), tmp_path / "notes.json"
    other.write_text("{}")
    for path in (older, other, tmp_path / "none.json"):
        forget_report(path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


def test_a_report_without_results_is_inconclusive() -> None:
    assert judge_report(report(), "r.json", BUDGET).outcome == "inconclusive"


def test_a_written_report_reads_back(tmp_path: Path) -> None:
    path = stored(tmp_path / "new" / "folder" / "r.json", result(20) | {"fps": float("nan")})
    assert read_report(path)["results"][0]["fps"] is None
    assert [entry.name for entry in path.parent.iterdir()] == ["r.json"], "no scratch file stays"


def test_a_report_in_an_impossible_place_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="choose another place"):
        write_report(tmp_path / "file" / "r.json", report())


def test_junit_has_a_suite_a_device_and_nothing_but_a_pass_is_green(tmp_path: Path) -> None:
    files = [
        stored(tmp_path / "a.json", result(20, title="fast"), result(40, title="slow")),
        stored(tmp_path / "b.json", result(20, title="lost", lost="cable <pulled>"), serial="Z2"),
    ]
    document = ElementTree.fromstring(junit_xml(judge_files(files, BUDGET)))
    suites = {suite.get("name"): suite for suite in document.iter("testsuite")}
    assert set(suites) == {"Demo 8 R5CX", "Demo 8 Z2"}
    assert (document.get("tests"), document.get("failures"), document.get("errors")) == ("3", "1", "1")
    cases = {case.get("name"): case for case in document.iter("testcase")}
    assert cases["fast"].find("failure") is None and cases["fast"].find("error") is None
    assert "p90 41" in (cases["slow"].find("failure").get("message") or "")
    assert "cable <pulled>" in (cases["lost"].find("error").get("message") or "")
    assert float(cases["fast"].get("time") or 0) == 14


def test_markdown_names_the_verdict_the_numbers_and_the_reasons() -> None:
    odd = result(40, title="a|b", warnings=["measured from adb shell"])
    text = markdown_summary([judge_report(report(result(20), odd), "r.json", BUDGET)], BUDGET)
    assert text.startswith("## mmexport bench at 30 FPS (33.3 ms): FAIL\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and "| 20.00 | 21.00 |" in rows[2] and rows[2].endswith("| pass |")
    assert r"a\|b" in rows[3] and rows[3].endswith("| **FAIL** |")
    assert "measured from adb shell" in text and "budget 33.33 ms" in text
