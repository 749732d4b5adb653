"""Reads rules.toml, the table of what each backend takes, into plain values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Backend:
    """Something that computes operations. ``rules`` says which release they were read in.

    ``partitions`` is ``all`` or ``largest``: whether every part that it takes runs there, or the largest only;
    ``in_order``: all, and a part ends where the order of execution meets the other side.
    ``unknown`` is what it says of an operation that it does not know. ``always`` names conditions on every operation.
    """

    name: str
    title: str
    rules: str
    format: str
    partitions: str
    unknown: str
    always: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """What a failed condition says: the backend's words (templates, by backend, ``""`` for all), ours, the remedy."""

    name: str
    says: Mapping[str, str]
    means: str
    remedy: str

    def words(self, backend: str) -> str:
        """The template for ``backend``."""
        return self.says.get(backend, self.says[""])


@dataclass(frozen=True)
class Support:
    """Under which conditions one backend takes an operation: its highest version (None: any) and conditions."""

    version: int | None
    conditions: tuple[str, ...]
    at_start: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """One operation: who takes it, and what helps where it is refused.

    ``refused`` holds words of backends that know the operation and yet refuse it.
    """

    op: str
    support: Mapping[str, Support]
    refused: Mapping[str, str]
    remedy: str


@dataclass(frozen=True)
class Cost:
    """What to say of operations that run, and yet cost something or bind the file to some devices."""

    ops: tuple[str, ...]
    says: str
    remedy: str


@dataclass(frozen=True)
class Rules:
    """The whole table; ``rules`` by format and operation."""

    backends: Mapping[str, Backend]
    conditions: Mapping[str, Condition]
    rules: Mapping[tuple[str, str], Rule]
    costs: tuple[Cost, ...]


@cache
def load_rules() -> Rules:
    """The table that ships with the package."""
    text = resources.files("mobile_matting_export.delegates").joinpath("rules.toml").read_text(encoding="utf-8")
    return parse_rules(text)


def parse_rules(text: str) -> Rules:
    """The table in ``text``.

    Raises:
        ValueError: another schema, or an operation with two rows.
    """
    table = tomllib.loads(text)
    if table.get("schema") != SCHEMA:
        raise ValueError(f"rules of schema {table.get('schema')!r}, this version reads {SCHEMA}")
    backends = {name: _backend(name, entry) for name, entry in table["backends"].items()}
    conditions = {name: _condition(name, entry, backends) for name, entry in table["conditions"].items()}
    rules: dict[tuple[str, str], Rule] = {}
    for format_name in dict.fromkeys(backend.format for backend in backends.values()):
        for row in table[f"rules_{format_name}"]:
            for op in row["ops"]:
                if (format_name, op) in rules:
                    raise ValueError(f"{op} has two rows for {format_name}")
                rules[format_name, op] = _rule(op, row, backends)
    costs = tuple(Cost(tuple(row["ops"]), row["says"], row["remedy"]) for row in table["remarks"])
    return Rules(backends, conditions, rules, costs)


def _backend(name: str, entry: Mapping[str, Any]) -> Backend:
    return Backend(name=name, **{**entry, "always": tuple(entry["always"])})


def _condition(name: str, entry: Mapping[str, Any], backends: Mapping[str, Backend]) -> Condition:
    own = {backend: entry[f"says_{backend}"] for backend in backends if f"says_{backend}" in entry}
    return Condition(name, {"": entry["says"], **own}, entry["means"], entry.get("remedy", ""))


def _rule(op: str, row: Mapping[str, Any], backends: Mapping[str, Backend]) -> Rule:
    support = {
        name: Support(
            version=row[name].get("version"),
            conditions=tuple(row[name].get("conditions", ())),
            at_start=tuple(row[name].get("at_start", ())),
        )
        for name in backends
        if name in row
    }
    return Rule(op, support, row.get("refused", {}), row.get("remedy", ""))
