"""``bench`` on several phones on the command line: where reports go, what is refused, which exit code wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from android_bench.bench_fleet import Member
from android_bench.errors import DeviceLost, RequestError
from android_bench.fleet_matrix import build_matrix, cell_words
from android_bench.gate import EXIT_CODES, Budget
from android_bench.judge_fleet import judge_fleet, judge_member
from android_bench.judged import judge_report
from android_bench.markdown import markdown_summary
from mobile_matting_export.cli.bench import bench
from mobile_matting_export.cli.main import run
from mobile_matting_export.cli.place_report import report_paths
from mobile_matting_export.errors import UsageError

BUDGET = Budget(30)
NOISE = (0.0, 0.2, -0.1, 0.1, -0.2, 0.3, -0.3)


def result(ms: float, title: str = "net a", **changed: Any) -> dict[str, Any]:
    launches = [{"median_ms": ms + noise, "p90_ms": ms + noise + 1} for noise in NOISE]
    latency = {"p50": ms, "p90": ms + 1, "ci95": [ms, ms]}
    told = {"title": title, "artifact": f"build/{title}", "accelerator_proved": True, "latency_ms": latency}
    return told | {"launches": launches} | changed


def member(serial: str, *results: dict[str, Any]) -> Member:
    return Member(serial, {"device": {"serial": serial, "model": "unknown"}, "results": list(results)})


MEMBERS = {
    "pass": member("P", result(20)),
    "inconclusive": member("I", result(20, accelerator_proved=False)),
    "fail": member("F", result(40)),
    "quality": member("Q", result(20, parity={"passed": False, "max_abs": 0.9, "mad": 0.5})),
    "unreadable": Member("U", None, RequestError("no runner")),
    "lost": member("L", result(20, lost="cable")),
}


def test_every_outcome_has_its_place() -> None:
    assert set(EXIT_CODES) == set(MEMBERS)


@pytest.mark.parametrize("place", range(len(EXIT_CODES)))
def test_the_worst_phone_decides(place: int) -> None:
    present = list(EXIT_CODES)[place:]
    verdict = judge_fleet([judge_member(MEMBERS[outcome], BUDGET) for outcome in reversed(present)])
    assert verdict.outcome == present[0] and verdict.exit_code == EXIT_CODES[present[0]]
    assert all(MEMBERS[present[0]].serial in reason for reason in verdict.reasons) and verdict.reasons


def test_the_matrix_has_a_cell_for_every_device_and_artifact() -> None:
    reports = [
        {"device": {"serial": "A"}, "results": [result(20, "x"), result(40, "y")]},
        {"device": {"serial": "B"}, "results": [result(30, "y")]},
    ]
    judged = [judge_report(report, report["device"]["serial"], BUDGET) for report in reports]
    matrix = build_matrix(judged)
    assert (matrix.devices, matrix.artifacts) == (("A", "B"), ("x", "y"))
    assert [[cell_words(cell, BUDGET) for cell in row] for row in matrix.cells] == [
        ["21.00 ms pass", "41.00 ms FAIL"],
        ["not measured", "31.00 ms pass"],
    ]
    assert matrix.as_dict()["cells"][1] == [
        None,
        {"p50": 30, "p90": 31, "ci95": [30, 30], "verdict": "pass", "outcome": "pass"},
    ]
    text = markdown_summary(judged, BUDGET)
    assert "| A | 21.00 ms pass | 41.00 ms FAIL |" in text and "| B | not measured | 31.00 ms pass |" in text
    assert "p90 and verdict" not in markdown_summary(judged[:1], BUDGET)


def test_artifacts_of_one_title_are_told_apart() -> None:
    twice = [result(20, artifact="old/net"), result(30, artifact="new/net")]
    judged = judge_report({"device": {"serial": "A"}, "results": twice}, "A", None)
    assert build_matrix([judged]).artifacts == ("net a (old/net)", "net a (new/net)")


@pytest.mark.parametrize(
    ("asked", "paths"),
    [
        ("reports", ["reports/R5CX.json", "reports/10.0.0.7_5555.json"]),
        ("out/bench-{device}.json", ["out/bench-R5CX.json", "out/bench-10.0.0.7_5555.json"]),
        (None, []),
    ],
)
def test_reports_go_to_a_folder_or_by_a_pattern(asked: str | None, paths: list[str]) -> None:
    assert [str(path) for path in report_paths(asked, ["R5CX", "10.0.0.7:5555"]).values()] == paths


def test_one_file_for_several_reports_is_refused() -> None:
    with pytest.raises(UsageError, match=r"bench-\{device\}\.json"):
        report_paths("bench.json", ["A", "B"])
    with pytest.raises(UsageError, match="one file"):
        report_paths("reports", ["a:1", "a_1"])


def test_a_file_where_the_folder_goes_is_refused_before_anything_is_measured(
    fleet: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("reports").write_text("mine")
    assert run(["bench", "-d", "A", "-d", "B", "--report", "reports"]) == 2
    assert "--report reports is a file, and several phones write a folder" in capsys.readouterr().err
    Path("r/A.json").mkdir(parents=True)
    assert run(["bench", "-d", "A", "-d", "B", "--report", "r"]) == 2
    assert "r/A.json is a folder" in capsys.readouterr().err
    assert not fleet and Path("reports").read_text() == "mine"
    Path("r.json").mkdir()  # a folder whatever its name looks like
    assert run(["bench", "-d", "A", "-d", "B", "--report", "r.json", "-q"]) == 0
    assert Path("r.json/B.json").is_file()


@pytest.mark.parametrize("report", ["reports", "{device}"])
@pytest.mark.parametrize("named", [["-d", "reports"], []])
def test_a_folder_where_the_file_goes_is_refused_before_anything_is_measured(
    fleet: list[Any],
    report: str,
    named: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_bench(*arguments: Any) -> Any:
        raise AssertionError("nothing may be measured")

    monkeypatch.setattr("mobile_matting_export.cli.bench_run.run_bench", run_bench)
    monkeypatch.setattr("android_bench.adb.find_phone", lambda serial, server=None: serial or "reports")
    Path("reports").mkdir()
    assert run(["bench", *named, "--report", report]) == 2
    assert "--report reports is a folder, and one phone's report is a file" in capsys.readouterr().err


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """No adb and no phone: the requests that bench_fleet gets; phone ``gone`` is lost, ``odd`` has no report."""
    asked: list[Any] = []

    def bench_fleet(jobs: Any, requests: Any, announce: Any, keep: Any) -> list[Member]:
        asked.extend(requests)
        members = [
            Member(request.serial, None, RequestError("no runner"))
            if request.serial == "odd"
            else Member(request.serial, member(request.serial, result(20, lost="cable")).report, DeviceLost("cable"))
            if request.serial == "gone"
            else member(request.serial, result(20))
            for request in requests
        ]
        for made in members:
            keep(made)
        return members

    monkeypatch.setattr("android_bench.bench_fleet.bench_fleet", bench_fleet)
    monkeypatch.setattr("android_bench.adb.list_devices", lambda **options: [])
    monkeypatch.setattr("mobile_matting_export.cli.bench.find_artifacts", lambda named, output: ([], []))
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_lost_phone_leaves_the_report_of_the_other(fleet: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "-d", "well", "-d", "gone", "-d", "well", "--min-fps", "30", "--report", "r", "-q"]) == 6
    out, err = capsys.readouterr()
    assert [request.serial for request in fleet] == ["well", "gone"]
    assert json.loads(Path("r/well.json").read_text())["results"][0]["latency_ms"]["p50"] == 20
    assert json.loads(Path("r/gone.json").read_text())["results"][0]["lost"] == "cable"
    assert "21.00 ms pass" in out and "device lost" in out and "cable" in err and "well" not in err


def test_an_older_report_does_not_stand_in_for_a_missing_one(fleet: list[Any]) -> None:
    Path("r").mkdir()
    Path("r/odd.json").write_text("{}")
    assert run(["bench", "-d", "well", "-d", "odd", "--report", "r", "--min-fps", "30", "-q"]) == 2
    assert [path.name for path in Path("r").iterdir()] == ["well.json"]


def test_the_history_gets_a_line_from_every_phone(fleet: list[Any]) -> None:
    assert run(["bench", "-d", "well", "-d", "gone", "--min-fps", "30", "--history", "h.jsonl", "-q"]) == 6
    lines = [json.loads(line) for line in Path("h.jsonl").read_text().splitlines()]
    assert [(line["device"], line["verdict"], line["min_fps"]) for line in lines] == [
        ("well", "pass", 30),
        ("gone", "lost", 30),
    ]


def test_a_history_that_cannot_be_written_costs_no_report(fleet: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert run(["bench", "-d", "A", "-d", "B", "--report", "r", "--history", "file/h.jsonl", "-q"]) == 2
    assert "cannot write file/h.jsonl" in capsys.readouterr().err
    assert sorted(path.name for path in Path("r").iterdir()) == ["A.json", "B.json"]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["-d", "host", "-d", "A"], 2, "by itself"),
        (["--all-devices", "-d", "A"], 2, "name the phones, or take all"),
        (["--all-devices"], 6, "adb sees no device"),
        (["-d", "A", "-d", "B", "--report", "r.json"], 2, "name a folder"),
    ],
)
def test_what_cannot_be_is_refused(
    fleet: list[Any], flags: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", *flags]) == code and not fleet
    assert words in capsys.readouterr().err


def test_help_says_where_several_reports_go() -> None:
    text = " ".join(CliRunner().invoke(bench, ["--help"]).output.split())
    assert "One phone: a file; several phones: a folder, or a name with {device} in it." in text
    assert "the other kind is refused" in text and "FOLDER/SERIAL.json" in text
