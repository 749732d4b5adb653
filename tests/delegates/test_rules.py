"""The table of rules is whole: nothing unknown, nothing unused, nothing twice."""

from __future__ import annotations

import string

import pytest

from mobile_matting_export.delegates.predicates import PREDICATES
from mobile_matting_export.delegates.rules import Support, load_rules, parse_rules


def _supports() -> list[Support]:
    return [support for rule in load_rules().rules.values() for support in rule.support.values()]


def test_every_named_condition_exists() -> None:
    rules = load_rules()
    always = {name for backend in rules.backends.values() for name in backend.always}
    named = {name for support in _supports() for name in (*support.conditions, *support.at_start)} | always
    assert named | {"version"} == set(rules.conditions)
    assert named == set(PREDICATES)


def test_only_the_classic_delegate_has_checks_at_its_start() -> None:
    late = {name for rule in load_rules().rules.values() for name, support in rule.support.items() if support.at_start}
    assert late == {"classic"}


def test_what_somebody_refuses_has_a_remedy() -> None:
    rules = load_rules()
    for (format_name, op), rule in rules.rules.items():
        backends = [name for name, backend in rules.backends.items() if backend.format == format_name]
        if set(backends) - set(rule.support):
            assert rule.remedy, op


def test_operations_are_those_of_the_schema() -> None:
    from ai_edge_litert import schema_py_generated as schema

    known = {op for format_name, op in load_rules().rules if format_name == "tflite"}
    assert known <= set(vars(schema.BuiltinOperator))


def test_backends_say_where_their_rules_were_read() -> None:
    for backend in load_rules().backends.values():
        assert any(character.isdigit() for character in backend.rules)
        assert backend.partitions in ("all", "largest", "in_order")


def test_templates_are_well_formed() -> None:
    for condition in load_rules().conditions.values():
        for template in (*condition.says.values(), condition.means):
            assert all(name != "" for _, name, _, _ in string.Formatter().parse(template))


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 2"):
        parse_rules("schema = 2")


def test_a_second_row_is_refused() -> None:
    row = '[[rules_tflite]]\nops = ["ADD"]\n'
    backend = '[backends.a]\ntitle=""\nrules="1"\nformat="tflite"\npartitions="all"\nunknown=""\nalways=[]\n'
    with pytest.raises(ValueError, match="ADD has two rows"):
        parse_rules(f"schema = 1\n{backend}[conditions]\n{row}{row}")
