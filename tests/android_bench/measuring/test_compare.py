"""A change within the noise is none, and what cannot be defended is no change either."""

from __future__ import annotations

from typing import Any

import pytest
from test_gate import report, result

from android_bench.compare import compare_reports, compare_results


@pytest.mark.parametrize(("new_ms", "verdict"), [(20.0, "same"), (20.3, "same"), (22.0, "slower"), (18.0, "faster")])
def test_a_change_beyond_the_band_has_a_name(new_ms: float, verdict: str) -> None:
    (change,) = compare_reports(report(result(20)), report(result(new_ms)))
    assert change.verdict == verdict and change.remarks == ()
    assert change.ratio == pytest.approx(new_ms / 20) and change.ci95 is not None
    assert change.ci95[0] <= new_ms / 20 <= change.ci95[1]


def test_a_wide_interval_is_no_change() -> None:
    noisy = [{"median_ms": value} for value in (18.0, 20, 25, 19, 24, 22, 21)]
    (change,) = compare_reports(report(result(20)), report(result(20, launches=noisy)))
    assert change.verdict == "same"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (report(result(10, accelerator_proved=False)), "new: nothing proves"),
        (report(result(10), soc="kona"), "other devices: soc SM8550 and kona"),
        (report(result(10, launches=[])), "new: 0 launches"),
        (report(result(10, launches=[{"median_ms": 10.0, "cpu_share": 0.3}] * 7)), "new: busy"),
    ],
)
def test_what_cannot_be_defended_is_unknown(new: dict[str, Any], words: str) -> None:
    (change,) = compare_reports(report(result(20)), new)
    assert change.verdict == "unknown" and words in " ".join(change.remarks)


def test_results_are_paired_by_title() -> None:
    base = report(result(20, title="A"), result(30, title="B"))
    new = report(result(30, title="B"), result(40, title="C"))
    changes = {change.title: change for change in compare_reports(base, new)}
    assert changes["B gpu"].verdict == "same"
    assert changes["A gpu"].verdict == changes["C gpu"].verdict == "unknown"
    assert changes["A gpu"].remarks == ("only one report has it, not new",)


def test_one_each_are_compared_whatever_their_titles() -> None:
    (change,) = compare_reports(report(result(20, title="A")), report(result(10, title="B")))
    assert (change.title, change.verdict) == ("A -> B", "faster")


def test_artifacts_measured_in_turns_are_compared_as_pairs() -> None:
    # both see the same drift: each alone varies by a third, their ratio not at all
    drift = [15.0, 16, 17, 18, 19, 20, 21]
    one, two = (
        result(1, title=title, launches=[{"median_ms": factor * ms} for ms in drift])
        for title, factor in (("A", 1.0), ("B", 1.1))
    )
    change = compare_results(one, two)
    assert change.verdict == "slower" and change.ci95 == pytest.approx((1.1, 1.1))
