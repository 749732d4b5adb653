"""How work tells where it is: sentences, one a step; parts of a step say that they are."""

from __future__ import annotations

from collections.abc import Callable

Announce = Callable[[str], None]
"""Called with a short sentence as each step starts, and with a ``Part`` within a step."""


class Part(str):
    """A sentence about a part of the step at hand: no step of its own. ``done`` of ``total``, where that is known."""

    done: int
    total: int | None

    def __new__(cls, message: str, done: int = 0, total: int | None = None) -> Part:
        """``message`` with how far the step is."""
        part = super().__new__(cls, message)
        part.done, part.total = done, total
        return part
