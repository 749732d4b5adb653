"""The demo's page shows each artifact beside the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.report.demo_page import Mattes, write_demo_page


def make_artifact(folder: Path, target: str) -> Artifact:
    manifest = {
        "network": {"name": "net"},
        "target": target,
        "precision": "fp16",
        "files": [{"bytes": 1500}, {"bytes": 500}],
        "cost": {"ops": 164},
        "parity": {"max_abs": 0.0149, "mad": 0.00055, "device": "cpu"},
    }
    return Artifact(folder / "net" / f"{target}-fp16", manifest)


def test_the_page_has_a_row_and_a_column_per_artifact(tmp_path: Path) -> None:
    artifacts = [make_artifact(tmp_path, target) for target in ("ncnn-cpu", "onnx")]
    alpha = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    pictures = [Mattes(name, np.zeros((20, 30, 3), np.uint8), [alpha, alpha]) for name in ("a.jpg", "b.jpg")]
    (tmp_path / "demo").mkdir()
    page = tmp_path / "demo" / "index.html"
    write_demo_page(page, artifacts, [12.34, 5.0], "Measured so.", pictures)
    text = page.read_text(encoding="utf-8")
    # a picture and two mattes of two artifacts each
    assert text.count('<img src="data:image/png;base64,') == 2 * (1 + 2 * 2)
    for words in ("2.00 kB", ">12.3<", ">5.0<", "0.0149", "0.00055", "Measured so.", "--columns:3"):
        assert words in text, words
    assert 'href="../net/ncnn-cpu-fp16/report.html"' in text
