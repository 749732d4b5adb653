"""Choose among the forms of a row by timing them: ``mmexport convert --autotune``.

One choice after the other, the best form so far is timed against each other one, in turns, beside a twin of itself: its
own files, loaded a second time. What only two loads of one file differ by is noise. A form is taken when it is
faster than both beyond the 95 % interval, and by more than the twins differ. What was taken, and the figures, are
kept in the cache: with the same cache the same form is taken again, whatever the machine is doing.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.bootstrap import interval
from mobile_matting_export.choices import Choice
from mobile_matting_export.fingerprint import digest, environment
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import Target

Build = Callable[[Target, Path], tuple[Path, ...] | None]
"""(row, folder) -> files made and verified there; None where they miss the limits of the row."""

Time = Callable[[Target, Mapping[str, tuple[Path, ...]]], Mapping[str, Sequence[float]]]
"""(row, form -> files) -> milliseconds of each form, one a round; what cannot run there is missing. The first two
forms are the row's own."""

_LIST = "autotune.json"


@dataclass(frozen=True)
class TimedRow:
    """The row with the forms that were taken, and a record a choice, as the manifest holds it under ``autotune``."""

    target: Target
    record: tuple[dict[str, Any], ...] = ()


def autotune(
    target: Target,
    state: str,
    build: Build,
    time: Time,
    unit: str,
    cache: ResultCache | None = None,
    announce: Announce = lambda message: None,
) -> TimedRow:
    """Time every choice of the row and return it with the fastest forms.

    Args:
        target: the row; its own forms are those that it comes with.
        state: what the files of its forms are made of, as text: network, precision, options.
        build: makes and verifies the files of a row.
        time: times the files of forms, in turns.
        unit: what its milliseconds are of, for the record.
        cache: earlier decisions for the same state on the same machine are taken from there.
        announce: called with a sentence a decision.

    Raises:
        ConversionError: the row's own form cannot be made.
    """
    key = digest("autotune", environment(), target.name, repr([r.name for r in target.rewrites]), state)
    with tempfile.TemporaryDirectory(prefix="mmexport-autotune-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        if cache is not None and cache.fetch(key, folder):
            record = json.loads((folder / _LIST).read_text(encoding="utf-8"))
            for entry in record:
                announce(Part(f"autotune {target.name}, {entry['choice']}: {entry['taken']}, as decided before"))
        else:
            record = _Tuner(target, build, time, unit, folder, announce).run()
            (folder / _LIST).write_text(json.dumps(record), encoding="utf-8")
            if cache is not None:
                cache.keep(key, {_LIST: folder / _LIST})
    tuned = target
    for choice in target.choices:
        taken = next((entry["taken"] for entry in record if entry["choice"] == choice.name), choice.own)
        tuned = tuned.with_form(choice, taken)
    return TimedRow(tuned, tuple(record))


class _Tuner:
    def __init__(
        self,
        target: Target,
        build: Build,
        time: Time,
        unit: str,
        folder: Path,
        announce: Announce,
    ) -> None:
        self.target, self.build, self.time, self.unit = target, build, time, unit
        self.folder, self.announce = folder, announce
        self.made = 0

    def run(self) -> list[dict[str, Any]]:
        """A record for each choice in which forms differ for this network."""
        row, record = self.target, []
        best = self._make(row)
        for choice in self.target.choices:
            if best is None:  # the row's own form misses its limits: converting it will say so
                break
            forms = {choice.own: best}
            for form in choice.others:
                files = self._make(row.with_form(choice, form))
                if files is not None and all(_sums(files) != _sums(known) for known in forms.values()):
                    forms[form] = files
            if len(forms) > 1:
                entry = self._compare(row, choice, forms)
                record.append(entry)
                row, best = row.with_form(choice, entry["taken"]), forms[entry["taken"]]
        return record

    def _make(self, row: Target) -> tuple[Path, ...] | None:
        self.made += 1
        place = self.folder / str(self.made)
        place.mkdir()
        return self.build(row, place)

    def _compare(self, row: Target, choice: Choice, forms: dict[str, tuple[Path, ...]]) -> dict[str, Any]:
        again = f"{choice.own} again"
        times = self.time(row, {choice.own: forms[choice.own], again: forms[choice.own], **forms})
        own, twin = times[choice.own], times[again]
        noise = abs(float(np.log(own).mean() - np.log(twin).mean()))
        entries: list[dict[str, Any]] = [{"form": choice.own, "ms": _rounded(statistics.median(own))}]
        taken, fastest = choice.own, 1.0
        for form in [form for form in forms if form != choice.own]:
            if form not in times:
                entries.append({"form": form, "ms": None})
                continue
            (value, low, high), (_, _, of_twin) = _ratio(times[form], own), _ratio(times[form], twin)
            ms = _rounded(statistics.median(times[form]))
            entries.append({"form": form, "ms": ms, "ratio": value, "low": low, "high": high})
            if max(high, of_twin) < 1 and value < min(fastest, float(np.exp(-noise))):
                taken, fastest = form, value
        shown = ", ".join(f"{e['form']} {e['ratio']} ({e['low']}-{e['high']})" for e in entries if "ratio" in e)
        said = f"{choice.own} stays, no other is faster beyond noise" if taken == choice.own else f"{taken} is taken"
        measured = f"{shown} of the time of {choice.own}; " if shown else ""
        self.announce(Part(f"autotune {row.name}, {choice.name}: {measured}{said}"))
        return {
            "choice": choice.name,
            "by": "timed",
            "unit": self.unit,
            "forms": entries,
            "noise": _rounded(noise),
            "taken": taken,
        }


def _ratio(times: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of the ratio over rounds, and its 95 % bootstrap interval."""
    logs = np.log(times) - np.log(others)
    low, high = interval(logs.tolist())
    return (_rounded(float(np.exp(logs.mean()))), _rounded(float(np.exp(low))), _rounded(float(np.exp(high))))


def _rounded(value: float) -> float:
    return round(value, 4)


def _sums(files: Sequence[Path]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
