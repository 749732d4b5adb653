"""Judges a bench report: pass, fail, or inconclusive, from the launches in it and nothing else.

What 90 % of the frames keep is compared with the frame's budget, 1000 / min_fps minus what the application needs
before and after the network. Pass: the whole 95 % interval, and nine launches of ten, lie below the budget. Fail: the
interval, and nine launches of ten, lie above. Everything else is inconclusive and passes no gate, as is a measurement
that cannot be defended: throttled, noisy, incomplete, refused, or without proof of the accelerator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from android_bench.errors import RequestError
from android_bench.stats import Summary, launch_tail, launch_value, spread, summarize
from android_bench.unknown import UNKNOWN

DEFAULT_LAUNCHES = 7
MIN_LAUNCHES = 5
"""Fewer say nothing about their spread."""
MAX_CV = 0.15
# below this share of its cores another program had them: a time is then too long, never too short
MIN_CPU_SHARE = 0.9

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
EXIT_CODES = {"lost": 6, "unreadable": 2, "quality": 4, FAIL: 5, INCONCLUSIVE: 7, PASS: 0}
"""Outcome -> exit code, the gravest first: a device that said nothing hides the worst."""


@dataclass(frozen=True)
class Budget:
    """Frames a second to reach, and the milliseconds of each frame that the network does not get."""

    min_fps: float
    pre_post_ms: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what leaves the network nothing."""
        if not self.min_fps > 0 or self.pre_post_ms < 0:
            raise RequestError("--min-fps must be above 0, and --pre-post-ms not below 0")
        if self.frame_ms <= 0:
            raise RequestError(
                f"{self.pre_post_ms:g} ms before and after the network leave it nothing of the "
                f"{1000 / self.min_fps:.1f} ms of a frame at {self.min_fps:g} FPS"
            )

    @property
    def frame_ms(self) -> float:
        """What the network may take."""
        return 1000 / self.min_fps - self.pre_post_ms


@dataclass(frozen=True)
class Verdict:
    """``outcome`` in one word, ``reasons`` in sentences.

    Beside pass, fail and inconclusive: ``lost`` (the device), ``quality`` (the alpha), ``unreadable`` (the report).
    """

    outcome: str
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """As the report has it: a lost device leaves it inconclusive, a wrong alpha is a fail."""
        if self.outcome == PASS:
            return PASS
        return FAIL if self.outcome in (FAIL, "quality", "unreadable") else INCONCLUSIVE

    @property
    def exit_code(self) -> int:
        """4 quality, 5 fail, 6 lost, 2 unreadable, 7 inconclusive, 0 pass."""
        return EXIT_CODES[self.outcome]


def judge_result(result: Mapping[str, Any], budget: Budget | None) -> Verdict:
    """Judge one artifact's measurement, an entry of a report's ``results``.

    Without a budget only whether it can be defended: quality, lost, inconclusive, or pass.
    """
    parity = result.get("parity")
    if isinstance(parity, Mapping) and parity.get("passed") is False:
        return Verdict("quality", (parity_reason(parity),))
    if result.get("lost"):
        return Verdict("lost", (f"the device was lost: {result['lost']}",))
    doubts = doubts_about(result)
    summary = summarize(_launches(result))
    if summary is None:
        return Verdict(INCONCLUSIVE, (*doubts, "no launch gave a time"))
    if budget is None:
        doubts += tuple(filter(None, [busy_reason(result)]))
        return Verdict(INCONCLUSIVE, doubts) if doubts else Verdict(PASS, (f"p90 {summary.p90:.2f} ms",))
    outcome, sentence = _compare(summary, budget)
    if outcome == PASS and (late := _late_minutes(result, budget)):
        outcome, sentence = FAIL, f"{late}; in short: {sentence}"
    if doubts:
        return Verdict(INCONCLUSIVE, (*doubts, f"without that: {sentence}"))
    if outcome == FAIL and (busy := busy_reason(result)):
        return Verdict(INCONCLUSIVE, (busy, f"without that: {sentence}"))
    return Verdict(outcome, (sentence,))


def judge_results(results: Sequence[Mapping[str, Any]], budget: Budget | None) -> Verdict:
    """The gravest verdict of a report, with the reasons of all that did not pass."""
    if not results:
        return Verdict(INCONCLUSIVE, ("the report holds no measurement",))
    verdicts = [(result, judge_result(result, budget)) for result in results]
    gravest = gravest_outcome([verdict.outcome for _, verdict in verdicts])
    shown = [(result, verdict) for result, verdict in verdicts if verdict.outcome != PASS] or verdicts
    reasons = [
        f"{result.get('title') or result.get('artifact')}: {reason}" for result, v in shown for reason in v.reasons
    ]
    return Verdict(gravest, tuple(reasons))


def gravest_outcome(outcomes: Sequence[str]) -> str:
    """The one that decides the exit code of them all."""
    return min(outcomes, key=list(EXIT_CODES).index)


def doubts_about(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a measurement cannot be defended, in sentences; empty when it can."""
    launches = _launches(result)
    doubts = [f"{entry['name']}: {entry['text']}" for entry in result.get("refusals") or ()]
    doubts += [f"precondition: {text}" for text in result.get("preconditions") or ()]
    timed = sum(1 for launch in launches if not launch.get("refused"))
    asked = max(int(result.get("launches_asked") or DEFAULT_LAUNCHES), MIN_LAUNCHES)
    if timed < asked:
        doubts.append(f"{timed} launches of {asked} gave a time")
    if isinstance(parity := result.get("parity"), Mapping) and parity.get("passed") is None:
        doubts.append(f"the device gave no alpha to compare: {parity.get('error')}")
    # a CPU time is asked for with nothing else switched on: a text that says nothing of it is no doubt, only a warning
    proved = result.get("accelerator_proved")
    if proved is not True and not (proved == UNKNOWN and result.get("accelerator") == "cpu"):
        doubts.append(f"nothing proves that the {result.get('accelerator')} did the work")
    doubts += _heat(launches)
    if (cv := spread(launches)) > MAX_CV:
        doubts.append(f"noisy: the launches' medians vary by {cv:.0%} (limit {MAX_CV:.0%})")
    return tuple(doubts)


def parity_reason(parity: Mapping[str, Any]) -> str:
    """What a failed comparison of alphas says."""
    if parity.get("max_abs") is None:
        return f"the alpha on the device is not a matte: {parity.get('error') or 'not finite'}"
    limits = parity.get("limits") or {}
    return (
        f"the alpha on the device is not the network's: max error {parity['max_abs']:.3g} "
        f"(limit {limits.get('max_abs', 0):.3g}), MAD {parity.get('mad') or 0:.3g} (limit {limits.get('mad', 0):.3g}), "
        f"worst on {parity.get('worst')}"
    )


def _compare(summary: Summary, budget: Budget) -> tuple[str, str]:
    low, high = summary.ci95
    fast, slow = summary.p10_p90
    limit = budget.frame_ms
    kept = f" after {budget.pre_post_ms:g} ms for pre- and post-processing" if budget.pre_post_ms else ""
    told = (
        f"p90 {summary.p90:.2f} ms ({summary.p90_of}), 95 % interval {low:.2f} to {high:.2f} ms, "
        f"budget {limit:.2f} ms for {budget.min_fps:g} FPS{kept}"
    )
    if high < limit and slow < limit:
        return PASS, told
    if low > limit and fast > limit:
        return FAIL, told
    return INCONCLUSIVE, f"too close to say: {told}"


def _late_minutes(result: Mapping[str, Any], budget: Budget) -> str:
    """The minutes of a sustained run whose frames missed the budget."""
    minutes = result.get("sustained") or []
    tails = [(entry.get("minute"), launch_tail(entry) or launch_value(entry)) for entry in minutes]
    late = [f"{minute} ({tail:.2f} ms)" for minute, tail in tails if tail is not None and tail > budget.frame_ms]
    return f"sustained: p90 misses {budget.frame_ms:.2f} ms in minute {', '.join(late)}" if late else ""


def _heat(launches: Sequence[Mapping[str, Any]]) -> list[str]:
    """Signs of throttling between the first and the last snapshot."""
    snapshots = [
        launch[key] for launch in launches for key in ("before", "after") if isinstance(launch.get(key), Mapping)
    ]
    if not snapshots:
        return []
    doubts = []
    statuses = [value for shot in snapshots if isinstance(value := shot.get("thermal_status"), int)]
    if statuses and max(statuses) > statuses[0]:
        doubts.append(f"throttled: the thermal status rose from {statuses[0]} to {max(statuses)}")
    first = snapshots[0].get("scaling_max_khz")
    if isinstance(first, Mapping):
        fell = [
            core
            for core, value in first.items()
            if any(_below(shot.get("scaling_max_khz"), core, value) for shot in snapshots[1:])
        ]
        if fell:
            doubts.append(f"throttled: the system lowered the highest clock of cores {', '.join(sorted(fell))}")
    return doubts


def _below(frequencies: Any, core: str, value: Any) -> bool:
    now = frequencies.get(core) if isinstance(frequencies, Mapping) else None
    return isinstance(now, int) and isinstance(value, int) and now < value


def busy_reason(result: Mapping[str, Any]) -> str:
    """That other programs had the runner's cores, in a sentence; empty when they had not, or nobody looked."""
    shares = [share for launch in _launches(result) if isinstance(share := launch.get("cpu_share"), float)]
    if not shares or min(shares) >= MIN_CPU_SHARE:
        return ""
    return f"busy: other programs left the runner {min(shares):.0%} of its cores, which makes times longer"


def _launches(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    launches = result.get("launches")
    return [launch for launch in launches if isinstance(launch, Mapping)] if isinstance(launches, list) else []
