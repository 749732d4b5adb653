"""Documents name what exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from mobile_matting_export.cli.main import COMMANDS, cli, run
from mobile_matting_export.networks import ALL
from mobile_matting_export.targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_readme_shows_every_command(command: click.Command) -> None:
    assert f"mmexport {command.name}" in README


@pytest.mark.parametrize("name", [row.name for row in (*ALL, *TARGETS)])
def test_readme_names_every_network_and_target(name: str) -> None:
    assert f"`{name}`" in README


def test_readme_uses_only_flags_that_exist() -> None:
    known = {flag for command in COMMANDS for parameter in command.params for flag in parameter.opts}
    known |= {flag for parameter in cli.params for flag in parameter.opts} | {"--help"}
    used = set(re.findall(r"(?<=[\s`])--[a-z-]*[a-z](?=[\s`,.;:)])", README))
    assert used <= known, used - known


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_link_to_files_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_verbs_in_documents_exist(document: str) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = (ROOT / document).read_text(encoding="utf-8")
    used = set(re.findall(r"^    make ([a-z-]+)", text, re.MULTILINE)) | set(re.findall(r"`make ([a-z-]+)`", text))
    assert used <= verbs


def test_constraints_pin_every_direct_dependency() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    declared = re.findall(r'^    "([A-Za-z0-9_.-]+)[>=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared
    assert {name.lower() for name in declared} <= pinned


@pytest.mark.toolchain
def test_readme_network_of_ones_own_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"`my_network\.py`:\n\n```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_network.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    assert run(["convert", "my_network.py:build", "-t", "onnx", "--size", "192x192", "-q"]) == 0
    assert (tmp_path / "build" / "my_network_build" / "onnx-fp32" / "manifest.json").is_file()
