"""Two bench reports side by side, with a band of noise: what lies in it is no difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from android_bench.gate import busy_reason, doubts_about
from android_bench.stats import launch_value, ratio_interval

NOISE_BAND = 0.03
"""A change smaller than this is never called one, however sure the interval is. Chosen, not measured."""


@dataclass(frozen=True)
class Change:
    """One artifact in both reports. ``ratio`` is new / base of the launches' medians, with its 95 % interval.

    ``verdict``: ``faster``, ``slower``, ``same`` (within noise), or ``unknown`` where one side cannot be defended.
    """

    title: str
    base_ms: float | None
    new_ms: float | None
    ratio: float | None
    ci95: tuple[float, float] | None
    verdict: str
    remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def compare_reports(base: Mapping[str, Any], new: Mapping[str, Any], band: float = NOISE_BAND) -> list[Change]:
    """Pair the results of two reports and compare them.

    Results are paired by title; where each report holds one, these two, whatever their titles. What only one report
    has is ``unknown``, and so is everything when the devices differ.
    """
    pairs = _paired(base["results"], new["results"])
    other = _other_device(base["device"], new["device"])
    return [
        # launches that did not take turns: what else ran meanwhile happened to one side only
        _compare(title, before, after, band, (*other, *_busy(before, "base"), *_busy(after, "new")))
        for title, before, after in pairs
    ]


def compare_results(before: Mapping[str, Any], after: Mapping[str, Any], band: float = NOISE_BAND) -> Change:
    """Compare two results of one report: artifacts that were measured in turns."""
    return _compare(f"{before.get('title')} -> {after.get('title')}", before, after, band, ())


def _compare(
    title: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    band: float,
    remarks: tuple[str, ...],
) -> Change:
    sides = {"base": before, "new": after}
    values = {side: _values(result) for side, result in sides.items()}
    middles = {side: _median(found) for side, found in values.items()}
    doubts = list(remarks)
    for side, result in sides.items():
        doubts += [f"only one report has it, not {side}"] if result is None else []
        doubts += [f"{side}: {doubt}" for doubt in (doubts_about(result) if result is not None else ())]
    base_ms, new_ms = middles["base"], middles["new"]
    if base_ms is None or new_ms is None:
        return Change(title, base_ms, new_ms, None, None, "unknown", tuple(doubts))
    low, high = ratio_interval(values["base"], values["new"])
    verdict = "same"
    if doubts:
        verdict = "unknown"
    elif high < 1 - band:
        verdict = "faster"
    elif low > 1 + band:
        verdict = "slower"
    return Change(title, base_ms, new_ms, new_ms / base_ms, (low, high), verdict, tuple(doubts))


def _paired(
    base: list[dict[str, Any]], new: list[dict[str, Any]]
) -> list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
    if len(base) == len(new) == 1:
        titles = [str(result.get("title") or result.get("artifact")) for result in (base[0], new[0])]
        return [(titles[0] if titles[0] == titles[1] else " -> ".join(titles), base[0], new[0])]
    before, after = ({_key(result): result for result in results} for results in (base, new))
    return [(" ".join(key), before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]


def _key(result: Mapping[str, Any]) -> tuple[str, str]:
    return str(result.get("title") or result.get("artifact")), str(result.get("accelerator"))


def _other_device(base: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    differing = [key for key in ("model", "soc") if base.get(key) != new.get(key)]
    return tuple(f"other devices: {key} {base.get(key)} and {new.get(key)}" for key in differing)


def _busy(result: Mapping[str, Any] | None, side: str) -> tuple[str, ...]:
    reason = "" if result is None else busy_reason(result)
    return (f"{side}: {reason}",) if reason else ()


def _values(result: Mapping[str, Any] | None) -> list[float]:
    launches = (result or {}).get("launches") or []
    return [value for launch in launches if (value := launch_value(launch)) is not None]


def _median(values: list[float]) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
