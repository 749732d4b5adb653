"""A fact that the device does not tell is the word "unknown", in Python and in JSON: never a guess, never a zero."""

from __future__ import annotations

import re
from typing import Final, Literal

Unknown = Literal["unknown"]
UNKNOWN: Final[Unknown] = "unknown"


def find_int(pattern: str, text: str) -> int | Unknown:
    """The whole number in group 1 of the first match; the pattern sees one line at a time."""
    match = re.search(pattern, text, flags=re.MULTILINE)
    return int(match.group(1)) if match else UNKNOWN


def find_word(pattern: str, text: str) -> str | Unknown:
    """Group 1 of the first match, without white space around it; empty counts as not told."""
    match = re.search(pattern, text, flags=re.MULTILINE)
    return (match.group(1).strip() or UNKNOWN) if match else UNKNOWN


def find_truth(pattern: str, text: str) -> bool | Unknown:
    """Whether group 1 of the first match is ``true``; anything but true and false is not told."""
    return {"true": True, "false": False}.get(find_word(pattern, text), UNKNOWN)
