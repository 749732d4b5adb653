"""What runs a benchmark: a phone behind adb, or this computer. Both are used through the same four verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end.

    ``status``: 0..255 as the machine's shell has it, 128 + n when it was killed by signal n.
    """

    status: int
    stdout: bytes
    stderr: bytes


class Machine(Protocol):
    """A phone, or this computer.

    ``serial`` names it (``host`` for this computer); ``folder`` is the one folder on it that holds everything of
    ours: paths under it may be passed to ``run`` and ``pull``.
    """

    @property
    def serial(self) -> str:
        """The phone's serial, or ``host``."""
        ...

    @property
    def folder(self) -> str:
        """Absolute path on the machine."""
        ...

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """Run a program to its end, in ``folder``; every argument arrives as it is, whatever characters it has.

        Environment and affinity are prefixes of ``argv``: ``env NAME=VALUE program``, ``taskset MASK program``.

        Args:
            argv: program and arguments.
            timeout: seconds; afterwards the program and its children are killed.

        Raises:
            CommandTimeout: still running at the limit; carries what it had printed.
            DeviceLost: the machine went away before it told how the program ended.
        """
        ...

    def push(self, local: Path, name: str) -> str:
        """Copy a file into ``folder`` as ``name``, whole or not at all; nothing is sent when its sha256 matches.

        Returns:
            The path on the machine.

        Raises:
            DeviceFull, NotWritable, DeviceLost: with nothing left under ``name`` but what was there before.
        """
        ...

    def pull(self, path: str, local: Path) -> None:
        """Copy a file of the machine to ``local``.

        Raises:
            FileMissing: nothing readable at ``path``.
            DeviceLost: the machine went away; ``local`` is not written.
        """
        ...
