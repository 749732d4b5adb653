"""Judges a whole graph by the rules of one backend: a verdict for each operation, parts, the outcome."""

from __future__ import annotations

from dataclasses import replace

from mobile_matting_export.delegates.judge_op import is_folded_half, judge_op
from mobile_matting_export.delegates.rules import Backend, Rules, load_rules
from mobile_matting_export.delegates.split_graph import split_graph, split_in_order
from mobile_matting_export.inspection import BackendReport, Graph, Part, Remark, Verdict


def judge_graph(graph: Graph, backend: str, rules: Rules | None = None) -> BackendReport:
    """What ``backend`` makes of ``graph``.

    Raises:
        KeyError: there is no such backend.
    """
    table = load_rules() if rules is None else rules
    row = table.backends[backend]
    verdicts = _follow_readers(graph, [judge_op(op, graph, row, table) for op in graph.ops], row)
    taken = [verdict.taken for verdict in verdicts]
    parts = split_in_order(taken) if row.partitions == "in_order" else split_graph(graph, taken)
    outcome = _outcome(verdicts)
    return BackendReport(
        name=row.name,
        title=row.title,
        rules=row.rules,
        outcome=outcome,
        verdicts=tuple(verdicts),
        parts=parts,
        accelerated=0 if outcome == "fails" else _accelerated(parts, row),
    )


def judge_all(graph: Graph) -> tuple[BackendReport, ...]:
    """Reports of all backends that run files of the graph's format, in the order of the table."""
    table = load_rules()
    return tuple(judge_graph(graph, name) for name, row in table.backends.items() if row.format == graph.format)


def find_costs(graph: Graph) -> tuple[Remark, ...]:
    """What the table says of operations that run and yet cost something."""
    found = [
        Remark(tuple(op.number for op in graph.ops if op.kind in cost.ops), cost.says, cost.remedy)
        for cost in load_rules().costs
    ]
    return tuple(remark for remark in found if remark.ops)


def _follow_readers(graph: Graph, verdicts: list[Verdict], backend: Backend) -> list[Verdict]:
    """A widened fp16 weight stays where what reads it is: on the CPU when one of its readers is."""
    for op in graph.ops:
        if not is_folded_half(op, graph):
            continue
        away = [reader for reader in graph.consumers(op.outputs[0]) if not verdicts[reader.number].taken]
        if away:
            reader = away[0]
            verdicts[op.number] = replace(
                verdicts[op.number],
                taken=False,
                means=f"the weight of {reader.kind} number {reader.number}, which {backend.title} does not take",
                remedy=verdicts[reader.number].remedy,
            )
    return verdicts


def _outcome(verdicts: list[Verdict]) -> str:
    if any(verdict.fatal for verdict in verdicts):
        return "fails"
    if all(verdict.taken for verdict in verdicts):
        return "full"
    return "partial" if any(verdict.taken for verdict in verdicts) else "none"


def _accelerated(parts: tuple[Part, ...], backend: Backend) -> int:
    sizes = [len(part.ops) for part in parts if part.taken]
    return max(sizes, default=0) if backend.partitions == "largest" else sum(sizes)
