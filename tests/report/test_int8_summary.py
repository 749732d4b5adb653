"""One line says what int8 kept and costs."""

from __future__ import annotations

from typing import Any

import pytest

from mobile_matting_export.report.int8_summary import as_decibels, as_error, as_percent, summarize_int8


def make(**held: Any) -> dict[str, Any]:
    found = {
        "held_out": {"mad_band": 0.00531, "psnr": 32.58, "used": 0.531} | held,
        "budget": {"mad_band": 0.01},
        "layers_int8": 158,
        "layers_float": [{}] * 6,
        "fp32_bytes": 1000,
    }
    return {"quantization": found, "files": [{"bytes": 300}, {"bytes": 80}]}


def test_the_line_tells_layers_error_budget_and_size() -> None:
    assert summarize_int8(make()) == (
        "158 of 164 layers, MAD in the band 0.0053, 53 % of the budget mad_band=0.01, worst picture 32.6 dB, "
        "file 0.38 of fp32"
    )


def test_what_is_no_number_is_said() -> None:
    assert "MAD in the band no number, ? % of the budget" in summarize_int8(make(mad_band=None, used=None))


@pytest.mark.parametrize(("tell", "words"), [(as_error, "no number"), (as_percent, "? %"), (as_decibels, "no number")])
def test_none_is_told_in_words(tell: Any, words: str) -> None:
    assert tell(None) == words
