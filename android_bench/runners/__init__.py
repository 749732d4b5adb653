"""The runners, in order: the first that takes a job's runtime is used unless another is named."""

from __future__ import annotations

from android_bench.errors import RequestError
from android_bench.runners.host import HostRunner
from android_bench.runners.litert import LitertRunner
from android_bench.runners.ncnn import NcnnRunner
from android_bench.runners.runner import Runner
from android_bench.runners.tflite import TfliteRunner

RUNNERS: tuple[Runner, ...] = (
    TfliteRunner(),
    LitertRunner(),
    NcnnRunner(),
    HostRunner(runtime="tflite"),
    HostRunner(runtime="ncnn"),
)


def find_runner(runtime: str, name: str | None = None) -> Runner:
    """The runner called ``name``, else the first that takes ``runtime``.

    Raises:
        RequestError: none does.
    """
    for runner in RUNNERS:
        if runner.runtime == runtime and name in (None, runner.name):
            return runner
    known = ", ".join(f"{runner.name} ({runner.runtime})" for runner in RUNNERS)
    raise RequestError(f"no runner {name or ''} for {runtime} files; there are: {known}")
