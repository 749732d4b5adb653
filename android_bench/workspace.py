"""Our place on a phone: one folder, one lock, and a guard there that cleans up even when this computer is gone.

The guard is a small shell script that runs on the phone as long as we are connected. It holds the lock, remembers
which programs we started, and when its input ends or it is hung up (program ended, Ctrl-C, cable pulled, power of
this computer lost) it kills them, restores settings, and removes folder and lock. Nothing depends on anybody's clock:
a lock is stale when its guard is no longer running.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import shlex
import socket

from android_bench.adb_server import Server
from android_bench.errors import BenchError, Busy, CommandTimeout, DeviceLost
from android_bench.explain_failure import explain_failure
from android_bench.hold_settings import UNDO_PREFIX
from android_bench.shell_v2 import ShellStream

BASE = "/data/local/tmp/mmx"
FOLDER = f"{BASE}/run"
# each program we start leaves its process id (the id of its process group too) as the name of a file here
RUNNING = f"{FOLDER}/.running"

_TAKE_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 5.0
# removing files and restoring settings; svc and cmd take a second each on a slow phone
_RELEASE_TIMEOUT_S = 15.0

# Exit statuses 73 and 75: EX_CANTCREAT and EX_TEMPFAIL of sysexits.h.
# For mksh (what phones have), dash and bash; tested with each that this computer has. Tools: mkdir rmdir rm grep sleep.
_GUARD = """
base=@BASE run=@FOLDER lock=@BASE/.lock me=@TOKEN
alive() { [ -n "$1" ] && grep -q -F -e "$2" "/proc/$1/cmdline" 2>/dev/null; }
stop() {
  for file in "$run"/.running/*; do
    group=${file##*/}
    case $group in *[!0-9]*) continue;; esac
    # a process id may have been given to somebody else meanwhile
    if [ ! -e "/proc/$group" ] || alive "$group" "$run"; then kill -s KILL -- "-$group" 2>/dev/null; fi
    rm -f "$file"
  done
}
clean() {
  trap '' HUP INT TERM
  stop
  for file in "$run"/@UNDO*; do
    [ -e "$file" ] && sh "$file" </dev/null >/dev/null 2>&1
  done
  # once more where a program that was just killed had a file to finish
  rm -rf "$run" || { sleep 0.2; rm -rf "$run"; }
}
leave() {
  clean
  left=$?
  rm -rf "$lock"
  rmdir "$base" 2>/dev/null
  exit $left
}
held() {
  pid= token= owner=
  read -r pid token owner 2>/dev/null < "$lock/owner"
  alive "$pid" "$token"
}
tries=0
mkdir -p "$base" || exit 73
until mkdir "$lock" 2>/dev/null; do
  if [ ! -d "$lock" ]; then
    mkdir -p "$base"
    [ $tries -lt 3 ] || { mkdir "$lock"; exit 73; }
  elif held; then
    echo "busy $owner"; exit 75
  elif [ -n "$pid" ] || [ $tries -ge 20 ]; then
    # one at a time, and looked at again: the lock may have been taken anew since
    if mkdir "$base/.reclaim" 2>/dev/null; then
      held || rm -rf "$lock"
      rmdir "$base/.reclaim"
    fi
  fi
  tries=$((tries + 1))
  [ $tries -lt 60 ] || { echo "busy an unknown process"; exit 75; }
  sleep 0.1
done
trap leave HUP INT TERM
trap '' PIPE
echo "$$ $me "@OWNER > "$lock/owner" || { rm -rf "$lock"; rmdir "$base"; exit 73; }
[ -e "$run" ] && clean && trap leave HUP INT TERM
mkdir "$run" "$run/.running" || { rm -rf "$run" "$lock"; rmdir "$base"; exit 73; }
echo ready
while read -r word number; do
  case $word in stop) stop; echo "stopped $number";; *) break;; esac
done
leave
"""


class Workspace:
    """The folder ``FOLDER`` on a phone, ours alone until ``release``."""

    def __init__(self, server: Server, serial: str) -> None:
        """Take the lock and make the folder; what a run that died left behind is removed first.

        Raises:
            Busy: another run holds the lock; the message says whose. NotWritable, DeviceFull, DeviceLost.
        """
        self.serial = serial
        script = (
            _GUARD.replace("@BASE", BASE)
            .replace("@FOLDER", FOLDER)
            .replace("@UNDO", UNDO_PREFIX)
            .replace("@TOKEN", secrets.token_hex(8))
            .replace("@OWNER", shlex.quote(_owner()))
        )
        self._stream = ShellStream(server, serial, script, _TAKE_TIMEOUT_S)
        self._stops = 0
        self._answers = True
        try:
            said = next(self._stream.lines(), "")
            if said != "ready":
                raise self._refusal(said)
        except BaseException:
            self._stream.close()
            raise

    def _refusal(self, said: str) -> BenchError:
        errors = self._stream.output[2].decode(errors="replace")
        if said.startswith("busy"):
            return Busy(
                f"device {self.serial} is in use by {said.removeprefix('busy').strip()}: wait until it ends, or stop "
                f"it; if nobody uses it: `adb -s {self.serial} shell rm -r {BASE}`",
                serial=self.serial,
                output=said,
            )
        return explain_failure(errors or said, self.serial, f"mkdir -p {FOLDER}")

    def require_held(self) -> None:
        """Make sure that the guard still runs.

        Raises:
            DeviceLost: it does not: the phone restarted or was away, and our files are gone.
        """
        if self._stream.has_news():
            raise DeviceLost(
                f"device {self.serial} restarted or was away, and what was on it is gone: check cable and power, then "
                "run again",
                serial=self.serial,
            )

    def stop_programs(self) -> bool:
        """Kill every program of ours that still runs; whether the phone confirmed it."""
        self._stream.within(_STOP_TIMEOUT_S)
        try:
            self._stops += 1  # an answer that comes late must not be taken for that to a later question
            self._stream.write(b"stop %d\n" % self._stops)
            self._answers = f"stopped {self._stops}" in self._stream.lines()
        except (DeviceLost, CommandTimeout, TimeoutError):
            self._answers = False
        return self._answers

    def release(self) -> bool:
        """Kill, restore, remove, unlock; whether the phone confirmed it. Without an answer its guard does it alone."""
        self._stream.within(_RELEASE_TIMEOUT_S if self._answers else _STOP_TIMEOUT_S)
        try:
            self._stream.write(b"leave\n")
            return self._stream.finish().status == 0
        except (DeviceLost, CommandTimeout, TimeoutError):
            return False
        finally:
            self._stream.close()


def _owner() -> str:
    """Who holds the lock, in words that survive every shell."""
    user = "somebody"
    with contextlib.suppress(KeyError, OSError):  # no name for this uid
        user = getpass.getuser()
    words = f"{user}@{socket.gethostname()} (process {os.getpid()} there)"
    return re.sub(r"[^\w@.() -]", "?", words)
