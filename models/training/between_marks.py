"""Put generated text into a page that people write: between two marks, the rest stays."""

from __future__ import annotations


def put_between(page: str, begin: str, end: str, text: str) -> str:
    """The page with what stands between the lines ``begin`` and ``end`` replaced by ``text``.

    Raises:
        ValueError: the marks are not in the page.
    """
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page lacks the lines {begin} and {end}: add them where the text belongs")
    return f"{before}{begin}\n{text}\n{end}{after}"
