"""Runs the command line in this process, and keeps what it said."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from mobile_matting_export.cli.main import run


@dataclass(frozen=True)
class Done:
    """Exit code of a call, and stdout and stderr together."""

    exit_code: int
    output: str


def run_quietly(*words: object) -> Done:
    """``mmexport`` with these words."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return Done(run([str(word) for word in words]), said.getvalue())
