"""The demo's page shows each artifact beside the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.report.demo_page import Mattes, write_demo_page


def make_artifact(folder: Path, target: str, device: str = "cpu") -> Artifact:
    manifest = {
        "network": {"name": "net"},
        "target": target,
        "precision": "fp16",
        "files": [{"bytes": 1500}, {"bytes": 500}],
        "cost": {"ops": 164},
        "parity": {
            "max_abs": 0.0149,
            "mad": 0.0000055,
            "device": device,
            "limits": {"max_abs": 0.1, "mad": 0.002},
        },
    }
    return Artifact(folder / "net" / f"{target}-fp16", manifest)


def test_the_page_has_a_row_and_a_column_per_artifact(tmp_path: Path) -> None:
    artifacts = [make_artifact(tmp_path, "ncnn-cpu"), make_artifact(tmp_path, "onnx")]
    alpha = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    pictures = [Mattes(name, np.zeros((20, 30, 3), np.uint8), alpha, [alpha, alpha]) for name in ("a.jpg", "b.jpg")]
    (tmp_path / "demo").mkdir()
    page = tmp_path / "demo" / "index.html"
    write_demo_page(page, artifacts, [12.34, 5.0], "Measured so.", pictures)
    text = page.read_text(encoding="utf-8")
    # a picture, PyTorch's matte, and two pictures of two artifacts each
    assert text.count('<img src="data:image/png;base64,') == 2 * (2 + 2 * 2)
    for words in ("2.00 kB", ">12.3<", ">5.0<", "0.0149", "/ 0.1<", "0.0000055", "/ 0.002<", "Measured so."):
        assert words in text, words
    assert "net: one network, two files, the same matte" in text
    assert "phone" not in text and "bench" not in text
    for name in ("report.html", "manifest.json"):
        assert f'href="../net/ncnn-cpu-fp16/{name}"' in text
    assert f"mmexport matte {artifacts[0].folder} selfie.jpg" in text and "mmexport convert" in text
    assert "software device" not in text


def test_times_of_a_software_device_say_so(tmp_path: Path) -> None:
    artifacts = [
        make_artifact(tmp_path, "onnx"),
        make_artifact(tmp_path, "ncnn-vulkan", "vulkan: llvmpipe (LLVM 15.0.6, 256 bits), fp16 arithmetic"),
    ]
    page = tmp_path / "index.html"
    write_demo_page(page, artifacts, [5.0, 290.0], "Measured so.", [])
    text = page.read_text(encoding="utf-8")
    assert text.count("software device") == 1 and text.index("5.0") < text.index("290.0") < text.index(
        "software device"
    )
