"""A file that is no bench report gets one sentence: what it is, and what a report is."""

from __future__ import annotations

import json

import pytest

from android_bench.explain_foreign_file import A_REPORT, explain_foreign_file

SCHEMA = "mmexport.bench/1"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "a folder"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"fast enough", "a text that is no JSON"),
        (b'{"schema": "mmexport.bench/1", "res', "JSON that is damaged or cut off"),
        (b"\xff\xfe\x00\x01", "a binary file of 4 bytes"),
        (b"\x1c\0\0\0TFL3....", "a TFLite model"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"7767517\n2 2\n", "an ncnn network (.param)"),
        (b"<?xml version='1.0'?><testsuites/>", "an XML document"),
        (b"[]", "a JSON list"),
        (b"3", "JSON with a single value"),
        (b"{}", "an empty JSON object"),
        (b'{"results": []}', "a JSON object of another tool (with results, without a schema)"),
        (b'{"a": 1, "b": 2, "c": 3, "d": 4}', "a JSON object of another tool (with a, b, c ..., without a schema)"),
        (b'{"schema": "other/1"}', "a JSON object of another kind (schema other/1)"),
        (b'{"schema": "mmexport.manifest/1"}', "the manifest of an artifact"),
        (
            b'{"schema": "mmexport.bench/2"}',
            "a report of another version of mmexport (mmexport.bench/2, this one reads mmexport.bench/1)",
        ),
        (b"[" * 100_000, "JSON that is damaged or cut off"),
    ],
)
def test_a_sentence_says_what_it_is_and_what_a_report_is(content: bytes | None, told: str) -> None:
    assert explain_foreign_file("a.json", content, SCHEMA) == f"a.json is {told}, not a bench report: {A_REPORT}"


def test_the_result_of_a_fleet_says_which_files_to_give() -> None:
    content = json.dumps({"schema": "mmexport.fleet/1"}).encode()
    said = explain_foreign_file("all.json", content, SCHEMA)
    assert said.startswith("all.json is the result of several phones") and "\n" not in said
