"""Altered frames: other pictures of the same kind, and the same ones every time."""

from __future__ import annotations

import torch

from mobile_matting_export.quantization.alter_frame import alter_frame


def draw(count: int, *frame: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(3)
    return [alter_frame(frame, generator) for _ in range(count)]


def test_the_same_seed_gives_the_same_frames_of_the_same_size_and_range() -> None:
    image = torch.rand(1, 3, 17, 24) * 3 - 1

    first, again = draw(12, image), draw(12, image)

    assert all(torch.equal(left, right) for (left,), (right,) in zip(first, again, strict=True))
    assert all(
        left.shape == image.shape and left.min() >= image.min() and left.max() <= image.max() for (left,) in first
    )
    assert not any(torch.equal(left, image) for (left,) in first)


def test_states_are_cut_and_mirrored_as_the_image_is_and_not_relit() -> None:
    columns = torch.linspace(0, 1, 24).expand(1, 1, 17, 24)

    drawn = draw(12, columns, columns.clone())

    for image, state in drawn:  # light is linear where nothing is clamped
        inside = (image > 0) & (image < 1)
        x, y = state[inside], image[inside]
        slope = ((x - x.mean()) * (y - y.mean())).mean() / (x - x.mean()).square().mean()
        torch.testing.assert_close(y, y.mean() + slope * (x - x.mean()), rtol=0, atol=1e-5)
        assert 0.69 < float(slope) < 1.31
    assert {bool(state[0, 0, 0, 0] > state[0, 0, 0, -1]) for _, state in drawn} == {True, False}
    assert min(float(state.max() - state.min()) for _, state in drawn) < 0.9
