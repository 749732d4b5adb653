"""Where a runner's binary is: as given, in a folder of the user's, or in the one that ``fetch_runner`` fills.

TFLite's and LiteRT's tools are both called benchmark_model and take different flags: the file itself tells which it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from android_bench.errors import RequestError
from android_bench.hash_file import file_sha256
from android_bench.runners import RUNNERS, find_runner
from android_bench.runners.runner import Runner

FOLDER_VARIABLE = "MMEXPORT_RUNNERS"
CHECKSUMS = "checksums.json"
# LiteRT's tool names its source file in every line it prints
_LITERT_MARK = b"benchmark_litert_model"
_HOW = {
    "tflite": "`mmexport runners fetch` gets LiteRT's benchmark_model; TFLite's own is built with bazel from "
    "google-ai-edge/LiteRT, tflite/tools/benchmark:benchmark_model --config=android_arm64",
    "ncnn": "no release of ncnn carries benchncnn: build it with the NDK from Tencent/ncnn, "
    "-DNCNN_BUILD_BENCHMARK=ON (and -DNCNN_VULKAN=ON for the GPU)",
}


@dataclass(frozen=True)
class Program:
    """A runner and its binary on this computer."""

    runner: Runner
    path: Path


def find_program(
    runtime: str,
    given: Path | None,
    name: str | None = None,
    fetched: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Program:
    """The runner for a runtime, and its binary.

    Args:
        runtime: ``tflite`` or ``ncnn``.
        given: the binary, or a folder of binaries; None to look where ``MMEXPORT_RUNNERS`` says, then in ``fetched``.
        name: which runner, where the file does not tell.
        fetched: the folder that ``fetch_runner`` fills; None: there is none.
        environment: for tests.

    Raises:
        RequestError: nowhere, or changed since it was fetched; says how to get one.
    """
    if given is not None and not given.exists():
        raise RequestError(f"--runner {given}: there is no such file or folder")
    if given is not None and given.is_file():
        return Program(find_runner(runtime, name or _kind(runtime, given)), given)
    folders = [given] if given is not None else [*_variable(environment), *filter(None, [fetched])]
    for runner in (entry for entry in RUNNERS if entry.runtime == runtime and name in (None, entry.name)):
        for folder in folders:
            for path in (folder / runner.name / runner.program, folder / runner.program):
                if path.is_file() and _kind(runtime, path) == runner.name:
                    require_unchanged(path)
                    return Program(runner, path)
    searched = f" in {' and '.join(map(str, folders))}" if folders else ""
    raise RequestError(
        f"no runner for {runtime} files{searched}: {_HOW[runtime]}; "
        f"then --runner FILE, or a folder in {FOLDER_VARIABLE}"
    )


def require_unchanged(path: Path) -> None:
    """Compare a fetched binary with the sha256 that was recorded when it came.

    Raises:
        RequestError: it is another file now.
    """
    folder = next((parent for parent in path.parents if (parent / CHECKSUMS).is_file()), None)
    if folder is None:
        return
    recorded = read_checksums(folder).get(path.relative_to(folder).as_posix())
    if recorded is not None and file_sha256(path) != recorded:
        raise RequestError(
            f"{path} is not the file that was fetched (its sha256 differs): remove it and run `mmexport runners fetch`"
        )


def read_checksums(folder: Path) -> dict[str, str]:
    """Path or address -> sha256 as recorded in a folder of runners; empty without a record.

    Raises:
        RequestError: the record is damaged.
    """
    path = folder / CHECKSUMS
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in recorded.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"{path} cannot be read ({error}): remove it, and the runners beside it") from None


def _variable(environment: Mapping[str, str]) -> list[Path]:
    return [Path(environment[FOLDER_VARIABLE])] if environment.get(FOLDER_VARIABLE) else []


def _kind(runtime: str, path: Path) -> str:
    if runtime != "tflite":
        return runtime
    return "litert" if _LITERT_MARK in path.read_bytes() else "tflite"
