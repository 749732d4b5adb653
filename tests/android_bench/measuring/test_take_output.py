"""One output out of all that a runner wrote, by the sizes that the manifest has."""

from __future__ import annotations

import numpy as np
import pytest

from android_bench.job import Tensor
from android_bench.take_output import take_output

ALPHA = Tensor("alpha", (1, 2, 3, 1), "NHWC", "uint8", 1 / 255, 0)
STATE = Tensor("next_h", (1, 1, 2, 2), "NHWC")


def test_every_output_has_its_part_and_its_type() -> None:
    state = np.arange(4, dtype="<f4").reshape(STATE.shape)
    raw = bytes([0, 51, 102, 153, 204, 255]) + state.tobytes()
    alpha = take_output(raw, (ALPHA, STATE), "alpha")
    assert alpha.dtype == np.float32 and alpha.shape == ALPHA.shape
    assert np.allclose(alpha.ravel(), [0, 0.2, 0.4, 0.6, 0.8, 1], atol=1e-6)
    assert np.array_equal(take_output(raw, (ALPHA, STATE), "next_h"), state)


@pytest.mark.parametrize("size", [0, 6, 21, 23])
def test_a_size_that_does_not_add_up_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"wrote {size} bytes, where the manifest has alpha 6 and next_h 16"):
        take_output(bytes(size), (ALPHA, STATE), "alpha")
