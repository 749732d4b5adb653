"""Holds back what C++ and Python libraries print while they work; results own stdout."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def held_output() -> Iterator[Callable[[], str]]:
    """Send file descriptors 1 and 2, and ``sys.stdout``/``stderr``, to a temporary file.

    The converter's C++ core writes to the descriptors, its Python side to the ``sys`` streams;
    both have to be held. Yields a function that returns everything held so far, for error notes.
    The streams are put back however the block ends.
    """
    with tempfile.TemporaryDirectory(prefix="mmexport-log-") as folder:
        log_path = Path(folder) / "output.txt"
        with log_path.open("w", buffering=1, encoding="utf-8", errors="replace") as log:
            _flush_streams()
            saved = {number: os.dup(number) for number in (1, 2)}
            try:
                for number in saved:
                    os.dup2(log.fileno(), number)
                with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                    yield lambda: log_path.read_text(encoding="utf-8", errors="replace")
            finally:
                _flush_streams()
                for number, copy in saved.items():
                    os.dup2(copy, number)
                    os.close(copy)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
