"""Make the file of a plan (which layers stay float), run it on pictures, score it, and remember the score."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import PlanRefused
from mobile_matting_export.fingerprint import digest, environment
from mobile_matting_export.formats.format import Format, Int8
from mobile_matting_export.parity import Case, run_cases
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.ranges import Range
from mobile_matting_export.quantization.score import Score, score_mattes
from mobile_matting_export.result_cache import ResultCache

_NAME = "score.json"


@dataclass
class PlanJudge:
    """Judges plans for one set of fp32 files, ranges and biases on fixed frames.

    ``state`` names everything but the plan that decides a score: a plan that is known, from this run or from the
    cache, costs nothing. ``sizes`` are the bytes of each plan's files, ``io`` the type of their image and alpha.
    """

    file_format: Format
    tool: Int8
    files: tuple[Path, ...]
    layers: tuple[QuantizableLayer, ...]
    ranges: Mapping[str, Range]
    bias_shift: Mapping[str, np.ndarray]
    frames: Sequence[Case]
    state: str
    cache: ResultCache | None = None
    io: IoKind = "float"
    known: dict[tuple[frozenset[str], int], Score | None] = field(default_factory=dict)
    sizes: dict[frozenset[str], int] = field(default_factory=dict)

    def score(self, keep_float: frozenset[str], frames: int | None = None) -> Score | None:
        """Score of the plan on the first ``frames`` frames, all by default; None where its file cannot be made."""
        count = len(self.frames) if frames is None else min(frames, len(self.frames))
        key = (keep_float, count)
        if key not in self.known:
            self.known[key] = self._remembered(keep_float, count)
        return self.known[key]

    def write(self, keep_float: frozenset[str], folder: Path, stem: str) -> tuple[Path, ...]:
        """Write the files of a plan; see ``Int8.quantize``."""
        files = self.tool.quantize(self.files, self.ranges, keep_float, folder, stem, self.bias_shift)
        if self.tool.quantize_ends is not None and self.io != "float":
            self.tool.quantize_ends(files, self.ranges, self.io)
        return files

    def _remembered(self, keep_float: frozenset[str], count: int) -> Score | None:
        if self.cache is None:
            return self._judge(keep_float, count)
        key = digest("plan", environment(), self.state, repr(sorted(keep_float)), str(count))
        with tempfile.TemporaryDirectory(prefix="mmexport-") as scratch:
            kept = self.cache.fetch(key, Path(scratch))
            if kept is not None:
                found = json.loads(kept[0].read_text())
                if found is None:
                    return None
                self.sizes[keep_float] = found["bytes"]
                return Score(**found["score"])
            score = self._judge(keep_float, count)
            made = Path(scratch) / _NAME
            kept_as = None if score is None else {"bytes": self.sizes[keep_float], "score": asdict(score)}
            made.write_text(json.dumps(kept_as))
            self.cache.keep(key, {_NAME: made})
        return score

    def _judge(self, keep_float: frozenset[str], count: int) -> Score | None:
        cases = self.frames[:count]
        with tempfile.TemporaryDirectory(prefix="mmexport-int8-") as scratch:
            try:
                made = self.write(keep_float, Path(scratch), "plan")
            except PlanRefused:
                return None
            self.sizes[keep_float] = sum(file.stat().st_size for file in made)
            mattes = run_files(self.file_format, made, cases)
        return score_mattes([case.name for case in cases], [case.alpha for case in cases], mattes)


def run_files(file_format: Format, files: tuple[Path, ...], cases: Sequence[Case]) -> list[np.ndarray]:
    """Alpha, 1x1xHxW float32, of every case in the files' own runtime on the CPU, fed its own states."""
    session = file_format.open(files, "cpu")
    try:
        return [outputs["alpha"] for outputs in run_cases(session, cases)]
    finally:
        session.close()
