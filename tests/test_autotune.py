"""Choices are timed, the faster form beyond the noise is taken, and what was taken is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mobile_matting_export.autotune import autotune
from mobile_matting_export.choices import Choice
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.rewrites.merge_pad import MERGE_PAD
from mobile_matting_export.rewrites.pin_upsample import PIN_UPSAMPLE
from mobile_matting_export.rewrites.rewrite import Rewrite
from mobile_matting_export.targets import TARGETS, Target, find_target

PAD = Choice("pad", (("merged", (MERGE_PAD,)), ("apart", ())))
SIZE = Choice("size", (("pinned", (PIN_UPSAMPLE,)), ("free", ()), ("twice", (PIN_UPSAMPLE, PIN_UPSAMPLE))))
ROW = replace(find_target("onnx"), rewrites=(MERGE_PAD, PIN_UPSAMPLE), choices=(PAD, SIZE))


class Bench:
    """Stands in for lowering and timing: a form's file names its rewrites, its times are given by them."""

    def __init__(self, milliseconds: dict[tuple[Rewrite, ...], float], jitter: float = 0.01) -> None:
        self.milliseconds, self.jitter = milliseconds, jitter
        self.built: list[tuple[Rewrite, ...]] = []
        self.timings = 0
        self.missing: set[tuple[Rewrite, ...]] = set()
        self.alike = False
        self.refused: set[str] = set()

    def build(self, row: Target, folder: Path) -> tuple[Path, ...] | None:
        self.built.append(row.rewrites)
        file = folder / "model"
        file.write_text("same" if self.alike else repr([rewrite.name for rewrite in row.rewrites]))
        return None if row.rewrites in self.missing else (file,)

    def time(self, row: Target, forms: Mapping[str, tuple[Path, ...]]) -> dict[str, list[float]]:
        self.timings += 1
        by_text = {repr([rewrite.name for rewrite in key]): ms for key, ms in self.milliseconds.items()}
        # rounds differ by far more than forms do: all are slow together
        rounds = [1, 3, 1, 2, 1, 4, 1, 2]
        return {
            name: [
                by_text[file.read_text()] * slow * (1 + self.jitter * ((index + number) % 3))
                for number, slow in enumerate(rounds)
            ]
            for index, (name, (file,)) in enumerate(forms.items())
            if name not in self.refused
        }


BOTH, PINNED, PADDED, NEITHER = (MERGE_PAD, PIN_UPSAMPLE), (PIN_UPSAMPLE,), (MERGE_PAD,), ()
TWICE = (PIN_UPSAMPLE, PIN_UPSAMPLE)
TIMES = {BOTH: 10.0, PINNED: 8.0, PADDED: 10.0, NEITHER: 8.01, TWICE: 7.0, (MERGE_PAD, *TWICE): 9.0}


def test_one_choice_after_the_other_the_fastest_form_is_taken() -> None:
    bench = Bench(TIMES)
    tuned = autotune(ROW, "state", bench.build, bench.time, "ms")

    assert tuned.target.rewrites == TWICE
    assert [(entry["choice"], entry["by"], entry["taken"]) for entry in tuned.record] == [
        ("pad", "timed", "apart"),
        ("size", "timed", "twice"),
    ]
    own, apart = tuned.record[0]["forms"]
    assert (own["form"], apart["form"]) == ("merged", "apart")
    assert apart["ratio"] == pytest.approx(0.8, abs=0.02)
    assert apart["low"] <= apart["ratio"] <= apart["high"] < 1
    # the second choice was timed with the first one taken
    assert bench.built == [BOTH, PINNED, NEITHER, TWICE]


@pytest.mark.parametrize(("gain", "jitter"), [(1.0, 0.01), (0.995, 0.01), (1.2, 0.01), (0.95, 0.2)])
def test_what_is_not_faster_beyond_the_noise_is_left(gain: float, jitter: float) -> None:
    bench = Bench({row: 10.0 * (gain if row != BOTH else 1) for row in TIMES}, jitter)
    tuned = autotune(ROW, "state", bench.build, bench.time, "ms")

    assert tuned.target == ROW
    assert {entry["taken"] for entry in tuned.record} == {"merged", "pinned"}


def test_forms_that_make_the_same_file_are_not_timed() -> None:
    bench = Bench(TIMES)
    bench.alike = True

    assert autotune(ROW, "state", bench.build, bench.time, "ms").record == ()
    assert bench.timings == 0


def test_a_form_that_misses_its_limits_is_no_form() -> None:
    bench = Bench(TIMES)
    bench.missing = {PINNED, (MERGE_PAD, *TWICE)}
    tuned = autotune(ROW, "state", bench.build, bench.time, "ms")

    assert tuned.target == ROW
    assert [entry["choice"] for entry in tuned.record] == ["size"]


def test_a_form_that_cannot_run_there_is_recorded_and_not_taken() -> None:
    bench = Bench(TIMES)
    bench.refused = {"apart"}
    tuned = autotune(ROW, "state", bench.build, bench.time, "ms")

    assert tuned.record[0]["taken"] == "merged"
    assert tuned.record[0]["forms"][1] == {"form": "apart", "ms": None}


def test_a_row_that_misses_its_limits_itself_is_left_to_the_conversion() -> None:
    bench = Bench(TIMES)
    bench.missing = {BOTH}

    assert autotune(ROW, "state", bench.build, bench.time, "ms").record == ()


def test_what_was_taken_is_remembered_for_the_same_state_only(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "cache")
    first = autotune(ROW, "state", *_calls(Bench(TIMES)), cache)
    changed = Bench({row: 20.0 - ms for row, ms in TIMES.items()})
    again = autotune(ROW, "state", *_calls(changed), cache)

    assert again == first
    assert (changed.built, changed.timings) == ([], 0)
    other = autotune(ROW, "another state", *_calls(changed), cache)
    assert other.target != first.target


def _calls(bench: Bench) -> tuple:
    return bench.build, bench.time, "ms"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_choices_of_a_row_lie_in_it_and_come_with_its_own_form(target: Target) -> None:
    names = [choice.name for choice in target.choices]
    assert len(set(names)) == len(names)
    for choice in target.choices:
        assert target.with_form(choice, choice.own) == target
        others = [target.with_form(choice, form).rewrites for form in choice.others]
        assert others and target.rewrites not in others and len(set(others)) == len(others)
