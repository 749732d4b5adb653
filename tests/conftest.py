"""Shared fixtures: where the material lies that the project does not carry itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobile_matting_export.collect_rarely import collect_rarely

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden networks, published weights and data beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (golden networks, published weights, data), which is not beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache for this run only: nothing is found in the user's, and nothing left there."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMEXPORT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def rare_collections() -> Iterator[None]:
    """Thousands of tests leave millions of objects of three frameworks: looking through them takes its time."""
    with collect_rarely():
        yield


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs the program mount")
    if done.returncode != 0:
        pytest.skip(f"this machine does not let root mount a small file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def nine_portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures to calibrate with: five for ranges, four held out."""
    import cv2  # most tests need neither

    from mobile_matting_export.procedural_portraits import make_portrait

    folder = tmp_path_factory.mktemp("portraits")
    for seed in range(9):
        cv2.imwrite(str(folder / f"{seed}.png"), make_portrait(seed, 160)[0][..., ::-1])
    return folder
