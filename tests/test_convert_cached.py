"""One call shares its work, a second one takes it from the cache: same bytes, nothing unverified."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mobile_matting_export import lower_target
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.errors import QualityError
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import Target, find_target

pytestmark = pytest.mark.toolchain


def run(network: LoadedNetwork, output: Path, cache: ResultCache | None, *names: str, **options: object) -> list[str]:
    """Convert, and return what was announced."""
    targets = [find_target(name) for name in names]
    return run_targets(network, output, cache, targets, **options)


def run_targets(
    network: LoadedNetwork, output: Path, cache: ResultCache | None, targets: list[Target], **options: object
) -> list[str]:
    """Convert for rows that need not be listed, and return what was announced."""
    said: list[str] = []
    convert_network(network, Job(targets, output, cache=cache, **options), said.append)  # type: ignore[arg-type]
    return said


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def worked(said: list[str]) -> list[str]:
    return [message.split()[0] for message in said if not message.startswith("writing") and "cache" not in message]


def test_targets_of_one_call_share_the_capture_the_rewriting_of_a_row_and_the_lowering_of_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    lowering = lower_target._lowering

    def counted(*args: object) -> object:
        made = lowering(*args)  # type: ignore[arg-type]

        def emit(graph: object, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
            calls.append(precision)
            return made.emit(graph, precision, folder, stem)  # type: ignore[arg-type]

        return lower_target.Lowering(made.name, emit, made.narrow)

    monkeypatch.setattr(lower_target, "_lowering", counted)
    vulkan = find_target("ncnn-vulkan")
    cpu = replace(find_target("ncnn-cpu"), rewrites=vulkan.rewrites)
    said = run_targets(load_network("ldn_fb"), tmp_path / "shared", None, [cpu, vulkan])
    assert len(calls) == 1
    assert worked(said).count("capturing") == 1
    assert worked(said).count("rewriting") == 1

    run_targets(load_network("ldn_fb"), tmp_path / "alone", None, [cpu])
    alone = contents(tmp_path / "alone")
    assert alone
    assert alone.items() <= contents(tmp_path / "shared").items()


def test_a_second_call_writes_the_same_bytes_without_working(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    names = ("ncnn-cpu", "onnx")
    assert worked(run(load_network("ldn_fb"), tmp_path / "one", cache, *names)).count("verifying") == 2
    said = run(load_network("ldn_fb"), tmp_path / "two", cache, *names)
    assert worked(said) == []
    run(load_network("ldn_fb"), tmp_path / "fresh", None, *names)
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "fresh")

    # a process of its own finds them, too
    code = "from mobile_matting_export.cli.main import main; main()"
    arguments = [
        "convert",
        "ldn_fb",
        "-t",
        "ncnn-cpu,onnx",
        "-o",
        str(tmp_path / "three"),
        "--cache",
        str(cache.folder),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=os.environ
    )
    assert contents(tmp_path / "three") == contents(tmp_path / "one")
    assert "verifying" not in done.stderr


def test_a_damaged_entry_is_made_and_verified_again(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    run(load_network("ldn_fb"), tmp_path / "one", cache, "onnx")
    for file in cache.folder.glob("*/*.onnx"):
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert "verifying" in worked(run(load_network("ldn_fb"), tmp_path / "two", cache, "onnx"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_limits_are_judged_anew_on_files_from_the_cache_and_a_miss_is_not_kept(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    run(load_network("ldn_fb"), tmp_path, cache, "ncnn-cpu")
    for _ in range(2):
        with pytest.raises(QualityError, match="is not the same matte"):
            run(load_network("ldn_fb"), tmp_path, cache, "ncnn-cpu", max_error=1e-9)
        assert not contents(tmp_path / "ldn_fb")


def test_a_network_of_ones_own_is_told_by_its_graph(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Own(nn.Module):\n"
        "    def forward(self, image):\n        return image.mean(1, keepdim=True) * FACTOR\n\n\nFACTOR = 0.5\n"
    )
    cache = ResultCache(tmp_path / "cache")

    def again() -> tuple[list[str], dict[str, bytes]]:
        network = load_network(f"{own}:Own", size=(32, 32), head="alpha")
        said = run(network, tmp_path / "build", cache, "onnx")
        return worked(said), contents(tmp_path / "build")

    first, made = again()
    assert "verifying" in first
    second, same = again()
    assert second == ["capturing"]
    assert same == made
    own.write_text(own.read_text().replace("FACTOR = 0.5", "FACTOR = 0.25"))
    third, other = again()
    assert "verifying" in third
    assert other != made
