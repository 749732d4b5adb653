"""Observe a model's tensors once: histograms of the same files on the same pictures are taken from the cache."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobile_matting_export.fingerprint import digest, environment
from mobile_matting_export.quantization.histogram import (
    Histogram,
    Passes,
    collect_histograms,
    load_histograms,
    save_histograms,
)
from mobile_matting_export.result_cache import ResultCache

_NAME = "histograms.npz"


def observe_once(
    cache: ResultCache | None, files: Sequence[Path], calibration: str, passes: Passes
) -> dict[str, Histogram]:
    """Histograms of what ``passes`` yields, see ``collect_histograms``; equal whether they come from the cache or not.

    Args:
        cache: None observes anew.
        files: the float model's, whose tensors are observed; their bytes count, not their names.
        calibration: names the pictures and what is observed of them, with ``Calibration.sha256``.
        passes: runs the files on the pictures; not called where the cache knows.

    Raises:
        ConversionError: a tensor has NaN or infinite values; nothing is kept then.
    """
    if cache is None:
        return collect_histograms(passes)
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key = digest("observed", environment(), *sums, calibration)
    with tempfile.TemporaryDirectory(prefix="mmexport-") as scratch:
        kept = cache.fetch(key, Path(scratch))
        if kept is not None:
            return load_histograms(kept[0])
        histograms = collect_histograms(passes)
        made = Path(scratch) / _NAME
        save_histograms(histograms, made)
        cache.keep(key, {_NAME: made})
    return histograms
