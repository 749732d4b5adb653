"""The int8 part of a report tells budget, plans, rankings and the worst picture, as the manifest has them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np

from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.parity import Case
from mobile_matting_export.report.int8_section import MOST_BARS, int8_section
from mobile_matting_export.report.page import render_page

SPEC = ImageSpec()


def score(band: float | None, mad: float | None = 0.001, psnr: float | None = 35.0) -> dict[str, Any]:
    return {
        "mad_band": band,
        "mad": mad,
        "worst_band": band,
        "psnr": psnr,
        "max_abs": 0.2,
        "worst": "first.jpg",
    }


def point(layers: int, band: float | None, chosen: bool = False) -> dict[str, Any]:
    used = None if band is None else band / 0.01
    made = {"float": layers, "macs_float": layers / 50, "bytes": 100_000 + 8_000 * layers}
    return made | score(band) | {"used": used, "chosen": chosen}


def make_int8_manifest(**changes: Any) -> dict[str, Any]:
    layers = [
        {
            "layer": f"net.block.{number}@1",
            "module": f"net.block.{number}",
            "kind": "CONV_2D",
            "alone": score(0.02 / (1 + number)),
        }
        for number in range(30)
    ]
    layers.append({"layer": "net@7", "module": "net", "kind": "ADD", "alone": None})
    kept = [0, 2, 25]
    found = {
        "arithmetic": "convolutions",
        "biases_corrected": True,
        "ranges": "mse",
        "equalized": 0.75,
        "tuned": {"steps": 300, "before": 0.02, "after": 0.01},
        "calibration": {"source": "96 pictures: <calib>", "frames": 64, "held_out": 32, "sha256": "e" * 64},
        "budget": {"mad_band": 0.01, "psnr": 30.0},
        "held_out": score(0.0085) | {"used": 0.85},
        "all_int8": score(0.2, psnr=21.0),
        "layers_int8": 28,
        "layers_float": [layers[number] | {"weight_bytes": 400} for number in kept],
        "macs_int8": 0.94,
        "fp32_bytes": 400_000,
        "temporal": {
            "source": "astronaut.jpg",
            "frames": 9,
            "dtssd": 1.234,
            "dtssd_of_int8": 6.47,
            "dtssd_of_float": 6.29,
        },
        "points": [
            point(0, 0.2),
            point(31, 1e-8),
            point(15, 0.004),
            point(7, 0.0095),
            point(9, 0.012),
            point(3, 0.0085, chosen=True),
        ],
        "layers": layers,
        "blocks": [
            {"module": "net.block", "layers": 30, "without": score(0.003)},
            {"module": "", "layers": 1, "without": score(0.19)},
            {"module": "net.odd", "layers": 1, "without": None},
        ],
    } | changes
    files = [{"path": "net_64x64_int8.tflite", "bytes": 124_000, "sha256": "a" * 64}]
    return {"target": "tflite-cpu", "files": files, "quantization": found}


def worst(error: float = 0.15) -> tuple[Case, np.ndarray]:
    alpha = np.zeros((1, 1, 64, 64), np.float32)
    alpha[..., 16:48, 16:48] = 1
    picture = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    case = Case("first.jpg", picture, {}, alpha)
    matte = alpha.copy()
    matte[..., 16, 16:48] -= error
    return case, matte


def section(**changes: Any) -> dict[str, Any]:
    return int8_section(make_int8_manifest(**changes), worst(), SPEC)


def page(**changes: Any) -> str:
    return render_page("int8_section.html.j2", {"int8": section(**changes), "target": "tflite-cpu"})


def words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_the_page_says_budget_pictures_flicker_and_how_to_time() -> None:
    html = page()
    text = words(html)
    for told in (
        "28 of 31 layers, MAD in the band 0.0085, 85 % of the budget mad_band=0.01,psnr=30, worst picture 35.0 dB, "
        "file 0.31 of fp32",
        "on 32 frames that no range was chosen by (64 others were, of 96 pictures: <calib>)",
        "int8 arithmetic convolutions ranges mse channels equalized by 0.75 biases corrected",
        "weights tuned 300 steps",
        "dtSSD 1.23",
        "dtSSD 6.47 / 6.29",
        "9 frames of a window that moves over astronaut.jpg",
        "mmexport trade-off tflite-cpu-fp32 tflite-cpu-int8 --html trade-off.html",
        "MAD in the transition band 0.0085 limit 0.01",
        "PSNR of the worst picture 35.0 dB at least 30.0 dB",
        "With all layers in int8 it is 0.2",
    ):
        assert told in text, told
    assert "&lt;calib&gt;" in html


def test_the_same_manifest_gives_the_same_part() -> None:
    assert page() == page()


def test_plans_that_no_other_beats_come_first_and_the_rest_can_be_opened() -> None:
    found = section()
    assert [row["float"] for row in found["rows"]] == [0, 3, 15, 31]
    assert [row["float"] for row in found["others"]] == [7, 9]
    taken = found["rows"][1]
    assert (taken["chosen"], taken["holds"], taken["used"]) == (True, True, "85 %")
    assert (taken["bytes"], taken["macs"], taken["band"]) == ("124 kB", "6 %", "0.0085")
    assert [row["holds"] for row in found["rows"]] == [False, True, True, True]


def test_the_plan_taken_is_shown_though_another_beats_it() -> None:
    found = section(points=[point(3, 0.008), point(4, 0.009, chosen=True)])
    assert [(row["float"], row["chosen"]) for row in found["rows"]] == [(3, False), (4, True)]


def test_every_plan_is_drawn_once_in_each_plot_with_the_budget_as_a_line() -> None:
    layers, files = section()["plots"]
    assert (layers["axis"], files["axis"]) == ("layers in float", "size of the files")
    assert len(layers["marks"]) == len(files["marks"]) == 6
    assert layers["edge"] is None and files["edge"] is not None
    by_words = {mark["told"]: mark for mark in layers["marks"]}
    for mark in by_words.values():
        # psnr is within its limit everywhere here
        assert mark["holds"] == (mark["y"] >= layers["limit"])
    (taken,) = [mark for mark in layers["marks"] if mark["chosen"]]
    assert taken["told"].startswith("3 layers in float, 124 kB: MAD in the band 0.0085, worst picture 35.0 dB, 85 %")
    html = page()
    assert html.count("<circle") == 2 * (6 + 1) and html.count('class="limit" x1=') == 2


def test_the_error_drawn_is_the_one_that_the_budget_limits() -> None:
    (layers, _) = section(budget={"psnr": 30.0, "mad": 0.004})["plots"]
    assert layers["title"].startswith("MAD of the whole picture") and layers["limit"] is not None
    (layers, _) = section(budget={"psnr": 30.0})["plots"]
    assert layers["title"].startswith("MAD in the transition band") and layers["limit"] is None


def test_where_all_layers_hold_or_a_recipe_was_replayed_there_is_no_ranking_and_no_plot() -> None:
    text = words(page(points=[point(0, 0.002, chosen=True)], layers=[], blocks=[]))
    assert "Plans tried" in text and "What each" not in text and "Filled: holds" not in text
    text = words(page(points=[], layers=[], blocks=[], all_int8=None))
    assert "Plans tried" not in text


def test_bars_are_the_most_sensitive_layers_and_tell_which_stay_float() -> None:
    ranking = section()["layers"]
    bars = ranking["bars"]
    assert len(bars) == MOST_BARS and ranking["all"] == 31
    assert [bar["kept"] for bar in bars] == [number in (0, 2) for number in range(MOST_BARS)]
    assert (ranking["kept_below"], ranking["unmeasured"]) == (1, 1)
    assert (bars[0]["name"], bars[0]["what"], bars[0]["percent"]) == ("net.block.0@1", "CONV_2D", "100.0")
    assert (bars[1]["value"], bars[1]["percent"]) == ("0.01", "50.0")


def test_blocks_are_named_and_one_that_could_not_be_made_is_left_out() -> None:
    bars = section()["blocks"]["bars"]
    assert [(bar["name"], bar["what"]) for bar in bars] == [
        ("net.block", "30 layers"),
        ("(the outermost module)", "1 layer"),
    ]


def test_a_name_that_does_not_tell_its_module_stands_after_it() -> None:
    layer = {"layer": "convrelu_3", "module": "net.stem.conv", "kind": "Convolution", "alone": score(0.1)}
    assert section(layers=[layer])["layers"]["bars"][0]["name"] == "net.stem.conv: convrelu_3"


def test_a_plan_without_numbers_is_told_and_not_drawn() -> None:
    found = section(points=[point(0, None), point(3, 0.0085, chosen=True), point(9, 0.001)])
    assert found["rows"][0]["band"] == "no number" and not found["rows"][0]["holds"]
    assert len(found["plots"][0]["marks"]) == 2


def test_a_lone_block_is_as_long_as_what_it_leaves_of_the_error() -> None:
    blocks = [{"module": "net", "layers": 8, "without": score(0.001)}]
    (bar,) = section(blocks=blocks, all_int8=score(0.004))["blocks"]["bars"]

    assert bar["percent"] == "25.0"
