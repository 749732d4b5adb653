"""Judges one operation by the rules of one backend: taken, or the first reason why not."""

from __future__ import annotations

from dataclasses import replace

from mobile_matting_export.delegates.facts import Facts
from mobile_matting_export.delegates.predicates import PREDICATES
from mobile_matting_export.delegates.rules import Backend, Rule, Rules
from mobile_matting_export.inspection import TAKEN, Graph, Op, Verdict


def judge_op(op: Op, graph: Graph, backend: Backend, rules: Rules) -> Verdict:
    """The verdict of ``backend`` on ``op``; of several reasons, the one that the backend finds first."""
    rule = rules.rules.get((backend.format, op.kind))
    if rule is None:
        return Verdict(
            taken=False,
            reason=backend.unknown,
            means=f"{op.kind} is not among the operations that {backend.title} is known to take",
        )
    support = rule.support.get(backend.name)
    if support is None:
        return Verdict(
            taken=False,
            reason=rule.refused.get(backend.name, backend.unknown),
            means=f"{backend.title} has no {op.kind}",
            remedy=rule.remedy,
        )
    if is_folded_half(op, graph):
        return TAKEN
    if support.version is not None and op.version > support.version:
        return _refusal("version", {"limit": support.version}, op, backend, rule, rules)
    try:
        for name in (*support.conditions, *backend.always):
            facts = PREDICATES[name](op, graph)
            if facts is not None:
                return _refusal(name, facts, op, backend, rule, rules)
        for name in support.at_start:
            facts = PREDICATES[name](op, graph)
            if facts is not None:
                return replace(_refusal(name, facts, op, backend, rule, rules), fatal=True)
    except IndexError:
        return Verdict(taken=False, means=f"the file gives {op.kind} fewer tensors or axes than it computes with")
    return TAKEN


def is_folded_half(op: Op, graph: Graph) -> bool:
    """Whether ``op`` only widens a stored fp16 weight: readers are pointed at the halves, the operation vanishes."""
    if op.kind != "DEQUANTIZE":
        return False
    source = graph.inputs_of(op)[0]
    return source.constant and source.dtype == "FLOAT16"


def _refusal(name: str, facts: Facts, op: Op, backend: Backend, rule: Rule, rules: Rules) -> Verdict:
    condition = rules.conditions[name]
    known = {"kind": op.kind, "number": op.number, "version": op.version, **facts}
    return Verdict(
        taken=False,
        reason=condition.words(backend.name).format(**known),
        means=condition.means.format(**known),
        remedy=condition.remedy or rule.remedy,
    )
