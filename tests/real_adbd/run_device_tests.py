"""``make device-test``: the tests of this folder against the real adbd, in private namespaces.

Prepares the phone below .venv/ once (packages from Debian), then runs pytest inside. Where that cannot be had it says
what is missing and ends with 0, so that CI goes on elsewhere: look for "not run".
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PHONE = ROOT / ".venv" / "real_adbd" / "root"


def missing() -> str:
    """What keeps the real adbd from running here; empty when nothing does."""
    if os.geteuid() != 0:
        return "needs root, for private namespaces"
    for program, package in (("adb", "adb"), ("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("mount", "mount")):
        if shutil.which(program) is None:
            return f"needs the program {program} (Debian package {package})"
    if not (PHONE / "complete").exists():
        PHONE.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(["bash", HERE / "make_root.sh", PHONE], check=False)
        if made.returncode != 0:
            return "Debian's package adbd (Debian 13) cannot be had from here"
    probe = subprocess.run([sys.executable, HERE / "nsrun.py", "true"], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"this kernel gives no private namespaces: {probe.stderr.strip()}"


def main() -> int:
    """Run pytest inside; its exit status."""
    if reason := missing():
        print(f"device-test: not run: {reason}")
        return 0
    environment = os.environ | {"MMEXPORT_REAL_ADBD": str(PHONE)}
    command = [sys.executable, "-m", "pytest", "-m", "device", "-p", "no:cacheprovider", str(HERE), *sys.argv[1:]]
    return subprocess.run(
        [sys.executable, HERE / "nsrun.py", *command], env=environment, cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
