"""Each hazard of half precision on a small file that has it, and on its neighbour that has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.find_fp16_hazards import find_fp16_hazards, half_sum
from mobile_matting_export.formats.tflite.record_tensors import record_tensors
from mobile_matting_export.inspection import Hazard


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


@pytest.fixture
def hazards(
    tflite_graph: Callable[..., ExportGraph], tmp_path: Path
) -> Callable[[Callable[[torch.Tensor], torch.Tensor], torch.Tensor], dict[str, Hazard]]:
    def find(function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> dict[str, Hazard]:
        (path,) = TFLITE.emit(tflite_graph(Function(function), image=image), "fp32", tmp_path, "small")
        found = find_fp16_hazards(path, [{"image": image.numpy()}])
        return {hazard.kind: hazard for hazard in found}

    return find


Find = Callable[[Callable[[torch.Tensor], torch.Tensor], torch.Tensor], dict[str, Hazard]]


def variance(x: torch.Tensor) -> torch.Tensor:
    d = x - x.mean((2, 3), keepdim=True)
    return d * torch.rsqrt((d * d).mean((2, 3), keepdim=True) + 1e-5)


def test_instance_norm_over_a_large_map_overflows_its_sums(hazards: Find) -> None:
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 1.5 + 2

    found = hazards(variance, image)

    assert set(found) == {"MEAN_OVERFLOW", "VARIANCE_SUM_OVERFLOW", "EPS_SUBNORMAL"}
    assert found["VARIANCE_SUM_OVERFLOW"].evidence["largest_sum"] == pytest.approx(1.5**2 * 256**2, rel=0.02)
    assert found["VARIANCE_SUM_OVERFLOW"].evidence["error_in_half"] == 1
    assert "cascade_means" in found["MEAN_OVERFLOW"].remedy


def test_small_pools_with_a_normal_eps_are_no_hazard(hazards: Find) -> None:
    def norm(x: torch.Tensor) -> torch.Tensor:
        def mean(y: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(F.avg_pool2d(y, 8), 8)

        d = x - mean(x)
        return d * torch.rsqrt(mean(d * d) + 1.6e-4)

    assert hazards(norm, torch.randn(1, 3, 64, 64) + 2) == {}


def test_long_sum_loses_small_terms(hazards: Find) -> None:
    image = torch.full((1, 1, 1, 8192), 0.5)

    found = hazards(lambda x: x.mean((2, 3), keepdim=True) * 2, image)

    assert set(found) == {"SWAMPING"}
    assert found["SWAMPING"].evidence == {"largest_sum": 4096, "numbers": 8192, "error_in_half": 0.75}


@pytest.mark.parametrize(
    ("function", "value", "kind", "evidence"),
    [
        (lambda x: x * 300.0, 300.0, "STORE_OVERFLOW", {"largest": 90000.0}),
        (lambda x: x * x, 300.0, "SQUARE_OVERFLOW", {"largest": 90000.0}),
        (lambda x: torch.exp(x), 12.0, "EXP_RANGE", {"largest_input": 12.0}),
        (lambda x: torch.rsqrt(x), 2e-5, "RSQRT_SMALL", None),
        (lambda x: torch.minimum(x, torch.tensor(1e9)) * 2, 1.0, "MASK_CONST", {"largest": 1e9}),
    ],
)
def test_numbers_that_half_precision_cannot_hold(
    hazards: Find,
    function: Callable[[torch.Tensor], torch.Tensor],
    value: float,
    kind: str,
    evidence: dict[str, float] | None,
) -> None:
    found = hazards(function, torch.full((1, 3, 4, 6), value))

    assert kind in found
    if evidence is not None:
        assert found[kind].evidence == pytest.approx(evidence)
    harmless = torch.full((1, 3, 4, 6), 1.0)
    if kind != "MASK_CONST":
        assert hazards(function, harmless) == {}


def test_squares_of_small_numbers_vanish(hazards: Find) -> None:
    image = torch.full((1, 3, 4, 6), 7e-3)

    found = hazards(lambda x: (x * x).mean((2, 3), keepdim=True), image)

    assert found["SQUARES_VANISH"].evidence == {"error_in_half": 1.0}


def test_difference_of_mean_squares_cancels(hazards: Find) -> None:
    def box_variance(x: torch.Tensor) -> torch.Tensor:
        mean = F.avg_pool2d(x, 3, 1)
        return F.avg_pool2d(x * x, 3, 1) - mean * mean

    generator = torch.Generator().manual_seed(0)

    found = hazards(box_variance, 0.9 + 0.02 * torch.randn(1, 1, 12, 12, generator=generator))

    assert found["VARIANCE_CANCELLATION"].evidence["mean_square_to_variance"] > 1000
    assert "VARIANCE_CANCELLATION" not in hazards(box_variance, torch.randn(1, 1, 12, 12, generator=generator))


def test_padded_average_pool_has_other_borders_on_the_delegate(hazards: Find) -> None:
    found = hazards(lambda x: F.avg_pool2d(x, 3, 1, 1), torch.rand(1, 3, 9, 9))

    assert found["PAD_AVERAGE_POOL"].evidence == {"largest_border_factor": 9 / 4}
    assert hazards(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), torch.rand(1, 3, 9, 9)) == {}


def test_large_window_loses_and_overflows(hazards: Find) -> None:
    found = hazards(lambda x: F.avg_pool2d(x, 32), torch.full((1, 1, 64, 64), 100.0))

    assert found["POOL_OVERFLOW"].evidence["largest_sum"] == pytest.approx(102400)


def test_worst_feed_counts(small_file: Path) -> None:
    dark, bright = ({"image": np.full((1, 3, 32, 24), value, np.float32)} for value in (0.0, 1e5))

    found = find_fp16_hazards(small_file, [dark, bright, dark])

    assert found == find_fp16_hazards(small_file, [bright])
    assert {hazard.kind for hazard in found} == {"STORE_OVERFLOW"}


def test_half_sum_is_a_half_register() -> None:
    assert half_sum(np.ones((1, 4096), np.float32), (1,)).tolist() == [2048.0]
    assert np.isinf(half_sum(np.full((2, 300, 300), 1.0, np.float32), (1, 2))).tolist() == [True, True]


def test_recorded_tensors_are_those_of_the_file(small_file: Path) -> None:
    image = np.random.default_rng(0).random((1, 3, 32, 24), np.float32)

    recorded = record_tensors(small_file, {"image": image})

    session = TFLITE.open((small_file,), "cpu")
    (alpha,) = [value for value in recorded.values() if value.shape == (1, 32, 24, 1) and value.min() > 0][-1:]
    np.testing.assert_allclose(alpha[..., 0], session.run({"image": image})["alpha"][:, 0], atol=1e-6)
    session.close()


def test_inputs_that_do_not_fit_are_refused(small_file: Path) -> None:
    with pytest.raises(UsageError, match=r"takes 1 inputs, 0 were given"):
        record_tensors(small_file, {})
    with pytest.raises(UsageError, match=r"input image of .* has shape \(1, 32, 24, 3\)"):
        record_tensors(small_file, {"image": np.zeros((1, 3, 8, 8), np.float32)})
