"""What decides a Vulkan device is listed; where that is not known, nothing is claimed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mobile_matting_export.list_vulkan_drivers import list_vulkan_drivers


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drivers are listed on Linux only")
def test_a_driver_another_build_of_it_and_a_variable_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_vulkan_drivers()
    assert before == list_vulkan_drivers()

    library, manifest = tmp_path / "libvulkan_own.so", tmp_path / "own.json"
    library.write_bytes(b"one")
    manifest.write_text(json.dumps({"ICD": {"library_path": str(library)}}))
    monkeypatch.setenv("VK_ICD_FILENAMES", str(manifest))
    with_own = list_vulkan_drivers()
    library.write_bytes(b"another")
    rebuilt = list_vulkan_drivers()
    library.unlink()
    gone = list_vulkan_drivers()
    manifest.write_text("{")
    damaged = list_vulkan_drivers()
    assert len({before, with_own, rebuilt, gone, damaged}) == 5


def test_elsewhere_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert list_vulkan_drivers() is None
