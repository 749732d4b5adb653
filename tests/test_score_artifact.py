"""An artifact's error is that of its own runtime, against the network it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from run_quietly import run_quietly

from mobile_matting_export.artifact import read_artifact
from mobile_matting_export.matte import open_session
from mobile_matting_export.parity import make_cases
from mobile_matting_export.score_artifact import score_artifact
from mobile_matting_export.verify import load_original

pytestmark = pytest.mark.toolchain


def test_the_score_is_of_the_files_and_the_worst_frame_is_the_one_it_names(tmp_path: Path) -> None:
    assert run_quietly("convert", "ldn_fb", "-t", "tflite-cpu", "-p", "w8", "-o", tmp_path).exit_code == 0
    artifact = read_artifact(tmp_path / "ldn_fb" / "tflite-cpu-w8")
    cases = make_cases(load_original(artifact, None, None))
    scored = score_artifact(artifact, cases)
    parity = artifact.manifest["parity"]
    assert scored.frames == len(cases) == parity["images"]
    assert scored.score.mad == pytest.approx(parity["mad"]) and scored.score.max_abs == pytest.approx(parity["max_abs"])
    assert scored.score.mad < scored.score.mad_band <= scored.score.worst_band
    assert scored.worst.name == scored.score.worst and scored.device == parity["device"]
    session = open_session(artifact)
    np.testing.assert_array_equal(scored.matte, session.run(scored.worst.inputs)["alpha"])
    session.close()
