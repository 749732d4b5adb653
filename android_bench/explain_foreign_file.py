"""Says what a file is that should have been a bench report, and what a bench report is. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

A_REPORT = "a bench report is the JSON file that `mmexport bench --report FILE` writes"
_FLEET = "mmexport.fleet/1"
_MANIFEST = "mmexport.manifest/"
# the first bytes of what lies beside reports; a TFLite file has its mark behind the root's offset
_MARKS = {
    (0, b"PK\x03\x04"): "a zip archive",
    (4, b"TFL3"): "a TFLite model",
    (0, b"7767517\n"): "an ncnn network (.param)",
    (0, b"\x7fELF"): "a program",
    (0, b"\x1f\x8b"): "a gzip archive",
    (0, b"<?xml"): "an XML document",
    (0, b"## mmexport bench"): "the markdown summary of a bench",
}
_SHOWN_KEYS = 3


def explain_foreign_file(name: str, content: bytes | None, schema: str) -> str:
    """One sentence for people: ``name`` is this, not a report of ``schema``, and how to get one.

    Args:
        name: as the user gave it.
        content: the file's bytes; None for a folder.
        schema: what a report's ``schema`` says.
    """
    told = "a folder" if content is None else _describe(content, schema)
    if told == "a fleet's result":
        return f"{name} is the result of several phones, each of which has a report of its own: give those files"
    return f"{name} is {told}, not a bench report: {A_REPORT}"


def _describe(content: bytes, schema: str) -> str:
    if not content.strip():
        return "empty"
    for (place, mark), told in _MARKS.items():
        if content[place : place + len(mark)] == mark:
            return told
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return f"a binary file of {len(content)} bytes"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        cut = text.lstrip()[:1] in ("{", "[")
        return "JSON that is damaged or cut off" if cut else "a text that is no JSON"
    return _describe_value(value, schema)


def _describe_value(value: Any, schema: str) -> str:
    if not isinstance(value, Mapping):
        return "a JSON list" if isinstance(value, list) else "JSON with a single value"
    found = value.get("schema")
    if not isinstance(found, str) or not found:
        keys = ", ".join(map(str, list(value)[:_SHOWN_KEYS])) + (" ..." if len(value) > _SHOWN_KEYS else "")
        return f"a JSON object of another tool (with {keys}, without a schema)" if value else "an empty JSON object"
    if found == _FLEET:
        return "a fleet's result"
    if found.startswith(_MANIFEST):
        return "the manifest of an artifact"
    if found.partition("/")[0] == schema.partition("/")[0]:
        return f"a report of another version of mmexport ({found}, this one reads {schema})"
    return f"a JSON object of another kind (schema {found})"
