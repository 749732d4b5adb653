"""The GitHub action and the CI snippets are sound: shells, inputs, steps, and flags that exist; the scripts run.

A check of our own: actionlint's package for pip fetches its program from elsewhere when it is installed, and it judges
workflows, while ours is an action.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mobile_matting_export.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
RUNS = [step for step in STEPS if "run" in step]
DOCUMENT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
WORKFLOW, GITLAB = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL))
SCRIPTS = {
    "action.yml": "\n".join(step["run"] for step in RUNS),
    "gitlab": "\n".join([*GITLAB["bench"]["script"], *GITLAB["bench"]["after_script"]]),
    "without CI": DOCUMENT.partition("## Without CI")[2],
}
STEP_KEYS = {"id", "name", "if", "shell", "env", "run", "uses", "with"}


def problems(steps: list[dict[str, Any]], declared: set[str]) -> list[str]:
    """What is wrong with the steps of a composite action, in words."""
    found = []
    ids = [step["id"] for step in steps if "id" in step]
    for number, step in enumerate(steps):
        text = yaml.safe_dump(step)
        if unknown := set(step) - STEP_KEYS:
            found.append(f"step {number}: unknown keys {unknown}")
        if ("run" in step) == ("uses" in step):
            found.append(f"step {number}: either run or uses")
        if "run" in step and "shell" not in step:
            found.append(f"step {number}: run without shell")
        if "${{" in step.get("run", ""):
            found.append(f"step {number}: an expression in a script is text that the shell runs")
        if "uses" in step and not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]):
            found.append(f"step {number}: {step['uses']} has no version")
        found += [
            f"step {number}: input {name} is not declared"
            for name in set(re.findall(r"\binputs\.([\w-]+)", text)) - declared
        ]
        earlier = {before.get("id") for before in steps[:number]}
        found += [
            f"step {number}: steps.{name} is no earlier step"
            for name in re.findall(r"\bsteps\.([\w-]+)\.", text)
            if name not in earlier
        ]
        used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)\b", step.get("run", "")))
        given = set(step.get("env", {})) | {"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"}
        found += [f"step {number}: variable {name} is not given" for name in used - given]
    return found + (["two steps have one id"] if len(ids) != len(set(ids)) else [])


def test_the_action_is_sound() -> None:
    assert ACTION["runs"]["using"] == "composite" and ACTION["name"] and ACTION["description"]
    assert problems(STEPS, set(ACTION["inputs"])) == []


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"run": "true"}, "without shell"),
        ({"run": "true", "shell": "bash", "uses": "a/b@v1"}, "either"),
        ({"run": "echo ${{ inputs.network }}", "shell": "bash"}, "expression"),
        ({"run": "true", "shell": "bash", "env": {"A": "${{ inputs.netwrok }}"}}, "netwrok is not declared"),
        ({"run": "true", "shell": "bash", "env": {"A": "${{ steps.none.outputs.a }}"}}, "no earlier step"),
        ({"run": 'echo "$NETWORK"', "shell": "bash"}, "NETWORK is not given"),
        ({"uses": "actions/checkout"}, "no version"),
        ({"run": "true", "shell": "bash", "when": "always()"}, "unknown keys"),
    ],
)
def test_what_is_not_sound_is_found(step: dict[str, Any], words: str) -> None:
    (problem,) = problems([step], set(ACTION["inputs"]))
    assert words in problem


def test_every_input_is_described_and_used() -> None:
    used = set(re.findall(r"\binputs\.([\w-]+)", yaml.safe_dump(STEPS)))
    assert used == set(ACTION["inputs"])
    assert all(entry["description"] and isinstance(entry["default"], str) for entry in ACTION["inputs"].values())


def test_outputs_are_set_by_their_steps() -> None:
    for entry in ACTION["outputs"].values():
        step, name = re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", entry["value"]).groups()
        (script,) = [run["run"] for run in RUNS if run.get("id") == step]
        assert f"{name}=" in script


def test_what_tells_runs_after_a_failure() -> None:
    judged = next(number for number, step in enumerate(STEPS) if step.get("name") == "Judge")
    assert len(STEPS) == judged + 4 and all(step["if"].startswith("always()") for step in STEPS[judged + 1 :])


def mmexport_calls(script: str) -> list[tuple[str, set[str]]]:
    """(command, its flags) of every call of mmexport in a script; words put into an array before it count for it."""
    calls = []
    joined = script.replace("\\\n", " ")
    for line in joined.splitlines():
        if found := re.search(r"(?:\"\$MMEXPORT\"|\bmmexport) ([a-z]+)\b", line):
            calls.append((found[1], set(re.findall(r"(?<=\s)--[a-z-]+", line))))
    return calls


def known_flags(command: str) -> set[str]:
    (found,) = [entry for entry in COMMANDS if entry.name == command]
    return {flag for parameter in found.params if isinstance(parameter, click.Option) for flag in parameter.opts}


@pytest.mark.parametrize("place", SCRIPTS)
def test_every_mmexport_flag_exists(place: str) -> None:
    calls = mmexport_calls(SCRIPTS[place])
    assert {command for command, _ in calls} >= {"bench", "gate"}
    for command, flags in calls:
        assert flags <= known_flags(command), (command, flags - known_flags(command))


def test_flags_put_together_in_the_action_exist() -> None:
    for name, command in (("Convert", "convert"), ("Measure", "bench")):
        (script,) = [step["run"] for step in RUNS if step.get("name") == name]
        gathered = set(re.findall(r"words\+=\((--[a-z-]+)", script))
        assert gathered and gathered <= known_flags(command)


def test_the_workflow_uses_inputs_that_exist() -> None:
    (job,) = WORKFLOW["jobs"].values()
    (ours,) = [step for step in job["steps"] if "mmexport" in step["uses"]]
    assert set(ours["with"]) <= set(ACTION["inputs"]) and "self-hosted" in job["runs-on"]
    assert all(isinstance(value, str) for value in ours["with"].values())
    assert WORKFLOW["permissions"]["pull-requests"] == "write"
    assert {"tags", "resource_group", "script", "artifacts"} <= set(GITLAB["bench"])


@pytest.mark.parametrize("place", ["action.yml", "gitlab"])
def test_scripts_parse(place: str) -> None:
    assert subprocess.run(["bash", "-n"], input=SCRIPTS[place], text=True, check=False).returncode == 0


# says which arguments it got, one a line; bench leaves what a test wants of it
STUB = """#!{python}
import pathlib, sys
with open("calls", "a") as calls:
    print(*sys.argv[1:], sep="|", file=calls)
if sys.argv[1] == "bench":
    if {leaves!r}:
        pathlib.Path("mmexport-out/reports", {leaves!r}).write_text("{{}}")
    sys.exit({bench})
if sys.argv[1] == "gate":
    sys.exit(0 if all(pathlib.Path(word).exists() for word in sys.argv[2:] if word.endswith(".json")) else 2)
"""


def run_action(folder: Path, bench: int, leaves: str = "", **inputs: str) -> tuple[list[int], list[list[str]]]:
    """Run the scripts as GitHub does until one fails; exit codes, and the arguments of mmexport's calls."""
    program = folder / "mmexport"
    program.write_text(STUB.format(python=sys.executable, bench=bench, leaves=leaves))
    program.chmod(0o755)
    values = {name: entry["default"] for name, entry in ACTION["inputs"].items()} | inputs
    values["mmexport"] = str(program)
    files = {name: str(folder / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    codes: list[int] = []
    for step in RUNS:
        if any(codes) and "always()" not in step.get("if", ""):
            continue
        given = {
            key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: values[m[1]], text)
            for key, text in step["env"].items()
        }
        given = {key: str(program) if "steps.install" in text else text for key, text in given.items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder,
            env=os.environ | files | given,
            check=False,
        )
        codes.append(done.returncode)
    return codes, [line.split("|") for line in (folder / "calls").read_text().splitlines()]


def test_words_arrive_as_they_are_and_nothing_of_them_runs(tmp_path: Path) -> None:
    (tmp_path / "mmexport-out" / "reports").mkdir(parents=True)
    (tmp_path / "mmexport-out" / "reports" / "old.json").write_text("{}")
    network = 'my net.py:build"; touch hacked; "$(touch hacked)'
    codes, calls = run_action(tmp_path, 0, network=network, targets="a b", devices="R5CX 10.0.0.7:5555")
    _, convert, bench, gate = calls
    assert convert[:6] == ["convert", network, "--target", "a", "--target", "b"] and not (tmp_path / "hacked").exists()
    assert bench[:5] == ["bench", "--device", "R5CX", "--device", "10.0.0.7:5555"]
    assert gate[:4] == ["gate", "mmexport-out/reports/*.json", "--min-fps", "30"]
    assert codes[-2] == 2, "no report of this run: the old one is gone, and the gate fails"


@pytest.mark.parametrize(("bench", "judged"), [(0, True), (4, True), (6, True), (7, True), (1, False), (2, False)])
def test_reports_are_judged_unless_nothing_was_measured(bench: int, judged: bool, tmp_path: Path) -> None:
    codes, calls = run_action(tmp_path, bench, leaves="R5CX.json" if judged else "")
    assert (calls[-1][0] == "gate") == judged and any(codes) != judged
    assert codes[-1] == 0 and (judged or bench in codes), "the summary is shown in any case"
    assert "--all-devices" in next(call for call in calls if call[0] == "bench")


@pytest.mark.parametrize("bench", [6, 7])
def test_without_any_report_the_code_of_bench_stays(bench: int, tmp_path: Path) -> None:
    codes, calls = run_action(tmp_path, bench, devices="R5CX")
    assert bench in codes and calls[-1][0] == "bench"
