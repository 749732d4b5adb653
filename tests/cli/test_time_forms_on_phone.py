"""What a phone refuses is no form there; a time that cannot be defended decides nothing."""

from __future__ import annotations

from typing import Any

import pytest

from mobile_matting_export.announce import Part
from mobile_matting_export.cli.time_forms_on_phone import read_times
from mobile_matting_export.errors import InconclusiveError

LIMITS = {"max_abs": 0.1, "mad": 2e-3}
WRONG = {"passed": False, "max_abs": 0.9, "mad": 0.2, "limits": LIMITS, "worst": "drawn-0"}
CPU_USED = {"name": "cpu-fallback", "text": "the delegate took none of it"}


def result(milliseconds: float, **changes: Any) -> dict[str, Any]:
    """An entry of a bench report, as ``android_bench.report`` makes it."""
    launches = [{"median_ms": milliseconds + number / 100, "cpu_share": None} for number in range(7)]
    return {
        "launches": launches,
        "launches_asked": 7,
        "accelerator": "gpu",
        "accelerator_proved": True,
        "parity": {"passed": True, "max_abs": 1e-3, "mad": 1e-5, "limits": LIMITS},
        "preconditions": [],
        "refusals": [],
    } | changes


def read(*other: dict[str, Any], own: dict[str, Any] | None = None) -> tuple[dict[str, list[float]], list[str]]:
    said: list[str] = []
    own = own or result(8)
    results = {"merged": own, "merged again": own} | dict(zip(("apart", "third"), other, strict=False))
    return read_times(results, "tflite-gpu on R5CX", said.append), said


def test_times_are_the_launches_medians() -> None:
    times, said = read(result(4))
    assert list(times) == ["merged", "merged again", "apart"]
    assert (times["merged"][0], times["apart"][-1], said) == (8, pytest.approx(4.06), [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"refusals": [CPU_USED], "launches": []}, "cpu-fallback"), ({"parity": WRONG}, "0.9")],
    ids=["refused", "wrong matte"],
)
def test_a_form_that_the_phone_refuses_or_computes_wrongly_is_left_out(changes: dict[str, Any], words: str) -> None:
    times, said = read(result(1, **changes), result(4))

    assert list(times) == ["merged", "merged again", "third"]
    (sentence,) = said
    assert isinstance(sentence, Part) and "apart is no form there" in sentence and words in sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"refusals": [CPU_USED], "launches": []}, "cpu-fallback"),
        ({"parity": WRONG}, "0.9"),
        ({"preconditions": ["the phone is hot"]}, "hot"),
        ({"launches": []}, "0 launches of 7"),
    ],
    ids=["refused", "wrong matte", "hot", "no launch"],
)
def test_without_a_defensible_time_of_the_own_form_nothing_is_decided(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InconclusiveError, match="leave --autotune away") as failure:
        read(result(4), own=result(8, **changes))
    assert words in str(failure.value) and "merged, that can be defended" in str(failure.value)


def test_another_form_at_a_busy_moment_decides_nothing_either() -> None:
    busy = [{"median_ms": 4.0, "cpu_share": 0.5}] * 7
    with pytest.raises(InconclusiveError, match="busy"):
        read(result(4, launches=busy))
