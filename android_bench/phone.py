"""A phone behind adb, locked for us: run programs on it, push and pull files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from android_bench.adb_program import AdbProgram
from android_bench.errors import CommandTimeout, DeviceLost, NoDevice, Offline, RequestError
from android_bench.machine import Completed
from android_bench.push_file import pull_file, push_file
from android_bench.shell_v2 import run_shell
from android_bench.workspace import FOLDER, RUNNING, Workspace

_PRESENT_TIMEOUT_S = 10.0
_NO_FOLDER = b"mmexport: the folder is gone"

# When we hang up, adbd sends SIGHUP to this shell and to nobody else: without the trap a silent program would run on
# and heat the phone. KILL, since a program may have its own idea of TERM. The file under .running is for the guard.
_WRAPPED = """trap 'kill -s KILL 0' HUP
cd {folder} || {{ echo '{gone}' >&2; exit 125; }}
true 2>/dev/null > {running}/$$
{{ {command}
}} & wait $!
status=$?
rm -f {running}/$$
exit $status"""


class Phone:
    """A Machine behind adb; made by ``android_bench.adb.open_phone``."""

    def __init__(self, serial: str, adb: AdbProgram, workspace: Workspace) -> None:
        self.serial = serial
        self.folder = FOLDER
        self.adb = adb
        self._workspace = workspace

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """Run a program in ``folder``; see ``Machine.run``. Its standard input is empty.

        Raises:
            CommandTimeout: not ended in time; it has been killed. DeviceLost: it has no result. RequestError.
        """
        if not argv or any("\0" in argument for argument in argv):
            raise RequestError(f"no command line: {list(argv)!r}", serial=self.serial)
        self._workspace.require_held()
        line = _WRAPPED.format(folder=FOLDER, running=RUNNING, gone=_NO_FOLDER.decode(), command=shlex.join(argv))
        try:
            done = run_shell(self.adb.server, self.serial, line, timeout)
        except CommandTimeout as error:
            error.command = shlex.join(argv)
            if not self._workspace.stop_programs():
                error.add_note("the phone did not confirm that the program was killed")
            raise
        except DeviceLost as error:
            error.command = shlex.join(argv)
            raise
        except (NoDevice, Offline) as error:  # it was there a moment ago
            raise self._lost(argv, error.output) from error
        except BaseException:  # Ctrl-C
            self._workspace.stop_programs()
            raise
        if _NO_FOLDER in done.stderr:  # the guard left between our look at it and this command
            raise self._lost(argv, done.stderr.decode(errors="replace"))
        return done

    def _lost(self, argv: Sequence[str], output: str) -> DeviceLost:
        return DeviceLost(
            f"device {self.serial} is gone: check cable and power, then run again",
            serial=self.serial,
            command=argv,
            output=output,
        )

    def require_present(self) -> None:
        """Make sure that the phone still answers; raises DeviceLost or CommandTimeout."""
        self.run(["true"], _PRESENT_TIMEOUT_S)

    def push(self, local: Path, name: str) -> str:
        """Copy a file into ``folder``; see ``push_file``."""
        return push_file(self, local, name)

    def pull(self, path: str, local: Path) -> None:
        """Copy a file of the phone to ``local``; see ``pull_file``."""
        pull_file(self, path, local)
