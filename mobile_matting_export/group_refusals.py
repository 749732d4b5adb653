"""Groups a backend's refusals by cause, so that sixteen equal ones read as one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from mobile_matting_export.inspection import BackendReport, Graph, Verdict


@dataclass(frozen=True)
class Refusals:
    """Operations of one type that a backend refuses for one cause; ``first`` is the first one's verdict.

    ``modules`` are the PyTorch modules that they come from, in order, each once.
    """

    kind: str
    ops: tuple[int, ...]
    modules: tuple[str, ...]
    first: Verdict


def group_refusals(graph: Graph, backend: BackendReport) -> tuple[Refusals, ...]:
    """The refusals of ``backend``, those that stop it altogether first, then by the first operation."""
    found: dict[tuple[str, bool, str], list[int]] = {}
    for number in backend.refused:
        verdict = backend.verdicts[number]
        found.setdefault((graph.ops[number].kind, verdict.fatal, verdict.remedy), []).append(number)
    groups = [
        Refusals(
            kind=kind,
            ops=tuple(numbers),
            modules=modules_of(graph, numbers),
            first=backend.verdicts[numbers[0]],
        )
        for (kind, _, _), numbers in found.items()
    ]
    return tuple(sorted(groups, key=lambda group: (not group.first.fatal, group.ops[0])))


def modules_of(graph: Graph, numbers: list[int] | tuple[int, ...]) -> tuple[str, ...]:
    """The PyTorch modules of these operations, in order, each once."""
    return tuple(dict.fromkeys(graph.ops[number].module for number in numbers if graph.ops[number].module))


def summarize_outcome(backend: BackendReport) -> str:
    """One sentence on who computes what, and under which caveat."""
    return f"{_summarize(backend)}; {backend.caveat}" if backend.caveat else _summarize(backend)


def _summarize(backend: BackendReport) -> str:
    total, taken = len(backend.verdicts), len(backend.verdicts) - len(backend.refused)
    if backend.outcome == "fails":
        stopper = next(number for number, verdict in enumerate(backend.verdicts) if verdict.fatal)
        return f"does not start: operation {stopper} stops the whole delegate"
    if backend.outcome == "full":
        return f"takes all {total} operations, in one part" if len(backend.parts) == 1 else f"takes all {total}"
    if backend.outcome == "none":
        return f"takes none of {total} operations"
    away = total - backend.accelerated
    cut = f"takes {taken} of {total} operations, cut into {len(backend.parts)} parts"
    if backend.accelerated < taken:
        return f"{cut}; it runs its largest part, {backend.accelerated} operations, the CPU the other {away}"
    return f"{cut}; the CPU computes the other {away}"


def quote(kind: str, verdict: Verdict) -> str:
    """The backend's message as it prints it, after the operation's name; empty where it says nothing."""
    named = not verdict.reason or kind in verdict.reason
    return verdict.reason if named else f"{kind}: {verdict.reason}"
