"""The sentence names the first step after which the matte was another, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.blame import blame
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.manifest import Lowered
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.parity import Case, ErrorStats, Verdict, make_frames
from mobile_matting_export.procedural_portraits import make_portrait
from mobile_matting_export.targets import Limits, find_target

STATS = ErrorStats(1, 0.25, 0.003, 40.0, "drawn-0")


@pytest.fixture(scope="module")
def network() -> LoadedNetwork:
    return load_network("ldn_fb", size=(64, 64))


@pytest.fixture(scope="module")
def cases(network: LoadedNetwork) -> tuple[Case, ...]:
    return make_frames(network, "drawn-0", make_portrait(0, 64)[0])


def _blame(network: LoadedNetwork, cases: tuple[Case, ...], target: str, precision: str) -> str:
    graph = capture(network.module, network.examples())
    lowered = Lowered(find_target(target), precision, "any", graph, graph, (), (Path("none"),))
    return blame(network, lowered, cases, Verdict("cpu", "cpu", STATS, Limits(0.01, 0.02)))


@pytest.mark.parametrize("target", ["tflite-cpu", "ncnn-cpu"])
@pytest.mark.parametrize(
    ("precision", "remedy"),
    [
        (
            "int8",
            "Give a narrower --quality-budget, use --precision fp16, or accept it with --max-error and --max-mad.",
        ),
        ("w8", "Use --precision fp16, or accept it with --max-error and --max-mad."),
    ],
)
def test_8_bits_are_blamed_with_a_remedy(
    network: LoadedNetwork, cases: tuple[Case, ...], target: str, precision: str, remedy: str
) -> None:
    said = _blame(network, cases, target, precision)

    assert f"ldn_fb for {target} {precision} is not the same matte: max error 0.25 (limit 0.01), MAD 0.003" in said
    assert "First broken by 8 bits: " in said and f" {remedy} No artifact is left" in said
    assert "lowering" not in said
    assert ("--quality-budget" in said) == (precision == "int8")  # w8 has none


def test_float_is_blamed_on_the_lowering(network: LoadedNetwork, cases: tuple[Case, ...]) -> None:
    assert "First broken by the lowering to tflite, after all rewrites. " in _blame(
        network, cases, "tflite-cpu", "fp32"
    )
