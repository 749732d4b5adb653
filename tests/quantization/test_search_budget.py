"""The search on made-up layers whose harm is known: what it finds, that it ends, and when it gives up."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mobile_matting_export.quantization.budget import parse_budget
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.measure_sensitivity import block_of
from mobile_matting_export.quantization.score import Score
from mobile_matting_export.quantization.search_budget import search_budget

BUDGET = parse_budget("mad_band=0.01")


def _score(error: float) -> Score:
    return Score(error, error / 3, error, 40.0, error * 10, "a.jpg")


@dataclass
class FakeJudge:
    """Errors of layers in int8 add up; ``unmakeable`` plans have no file."""

    harms: dict[str, float]
    macs: dict[str, int] = field(default_factory=dict)
    unmakeable: frozenset[frozenset[str]] = frozenset()
    asked: list[frozenset[str]] = field(default_factory=list)

    @property
    def layers(self) -> tuple[QuantizableLayer, ...]:
        return tuple(
            QuantizableLayer(name, f"net.{name[0]}.{name}", "CONV_2D", self.macs.get(name, 1000), 0, 0)
            for name in self.harms
        )

    def score(self, keep_float: frozenset[str], frames: int | None = None) -> Score | None:
        self.asked.append(keep_float)
        if keep_float in self.unmakeable:
            return None
        return _score(sum(harm for name, harm in self.harms.items() if name not in keep_float))


def _search(judge: FakeJudge, floats: frozenset[str] = frozenset()):  # type: ignore[no-untyped-def]
    return search_budget(judge, BUDGET, floats, lambda plan: True, lambda message: None)  # type: ignore[arg-type]


def test_all_in_int8_is_taken_where_it_holds_and_nothing_else_is_tried() -> None:
    judge = FakeJudge({"a1": 0.004, "a2": 0.004})

    found = _search(judge)

    assert (found.keep_float, found.layers, len(judge.asked)) == (frozenset(), (), 1)


def test_the_most_harmful_layers_stay_float_until_the_budget_holds_with_a_margin() -> None:
    judge = FakeJudge({"a1": 0.02, "a2": 0.003, "b1": 0.004, "b2": 0.0015, "c1": 0.03})

    found = _search(judge)

    assert found.keep_float == {"a1", "c1"}
    assert found.score.mad_band == pytest.approx(0.0085)
    assert BUDGET.strain(found.score) <= 1
    assert [one.layer.name for one in found.layers] == ["c1", "a1", "b1", "a2", "b2"]
    assert found.blocks[0].module == "net.c"


def test_layers_that_are_not_needed_go_back_to_int8_the_costly_ones_first() -> None:
    # bisection must take the first three; the third alone would do, and it is cheap
    judge = FakeJudge({"a1": 0.0041, "a2": 0.0042, "b1": 0.0043, "b2": 0.0001}, macs={"a2": 9000, "a1": 5000})

    found = _search(judge)

    assert found.keep_float == {"b1"}


def test_layers_that_are_float_in_any_case_are_neither_ranked_nor_given_back() -> None:
    judge = FakeJudge({"a1": 0.0, "a2": 0.02, "b1": 0.001})

    found = _search(judge, frozenset({"a1"}))

    assert found.keep_float == {"a1", "a2"}
    assert "a1" not in {one.layer.name for one in found.layers}
    assert all("a1" in plan for plan in judge.asked[:1])


def test_a_plan_without_a_file_is_passed_over() -> None:
    harms = {"a1": 0.02, "a2": 0.02, "b1": 0.001}
    judge = FakeJudge(harms, unmakeable=frozenset({frozenset({"a1", "a2"})}))

    assert _search(judge).keep_float == {"a1", "a2", "b1"}


def test_none_is_found_where_even_float_does_not_hold() -> None:
    class Broken(FakeJudge):
        def score(self, keep_float: frozenset[str], frames: int | None = None) -> Score | None:
            return _score(0.5)

    assert _search(Broken({"a1": 0.1})) is None


def test_the_search_asks_a_bounded_number_of_plans() -> None:
    judge = FakeJudge({f"{chr(97 + i % 7)}{i}": 0.001 + i * 1e-6 for i in range(200)})

    _search(judge)

    assert len(judge.asked) <= 1 + 200 + 7 + 1 + 8 + 40


def test_a_block_is_the_module_that_holds_the_layers_own() -> None:
    assert block_of(QuantizableLayer("x", "net.stage_0.dense.1.conv", "CONV_2D", 1, 1, 1)) == "net.stage_0.dense.1"
    assert block_of(QuantizableLayer("x", "", "ADD", 1, 1, 1)) == ""


def test_a_plan_that_is_not_accepted_does_not_do_though_it_holds_the_budget() -> None:
    judge = FakeJudge({"a1": 0.02, "a2": 0.003, "b1": 0.004, "b2": 0.0015})
    asked: list[frozenset[str]] = []

    def accept(plan: frozenset[str]) -> bool:
        asked.append(plan)
        return {"a1", "b1"} <= plan

    found = search_budget(judge, BUDGET, frozenset(), accept, lambda message: None)  # type: ignore[arg-type]

    assert found is not None and found.keep_float == {"a1", "b1"}
    assert frozenset({"a1"}) in asked  # it holds the budget
    assert all(sum(harm for name, harm in judge.harms.items() if name not in plan) < 0.01 for plan in asked)
