"""Generated text goes between its marks, and nowhere else."""

from __future__ import annotations

import pytest

from models.training.between_marks import put_between


def test_the_page_keeps_its_text() -> None:
    page = put_between("above\n<a>\nold\n<b>\nbelow\n", "<a>", "<b>", "new")
    assert page == "above\n<a>\nnew\n<b>\nbelow\n"
    assert put_between(page, "<a>", "<b>", "new") == page


@pytest.mark.parametrize("page", ["no marks", "<a> only", "<b> only", "<b> before <a>"])
def test_a_page_without_its_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="lacks the lines"):
        put_between(page, "<a>", "<b>", "new")
