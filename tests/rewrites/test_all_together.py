"""Random small networks keep their function under all rewrites of every row of the targets, in its order."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.rewrites.rewrite import apply_rewrites, run_all
from mobile_matting_export.targets import TARGETS

# targets that share a row are tested once
ROWS = tuple(dict.fromkeys(target.rewrites for target in TARGETS))

WIDTH = 4

BLOCKS = (
    "conv", "depthwise", "bn", "relu", "prelu", "cat", "add", "bilinear", "nearest", "box", "pool", "se", "ibn",
    "write", "shuffle", "forward", "wide box",
)  # fmt: skip
HEADS = ("slice", "softmax", "resized softmax", "feathering", "window", "deconv", "doubled")


class Block(nn.Module):
    """One step on a map of ``WIDTH`` channels, which may look back at the map before."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.merge = nn.Conv2d(2 * WIDTH, WIDTH, 1)
        self.split = nn.Conv2d(WIDTH, WIDTH, 1, groups=2)
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)
        self.bn = nn.BatchNorm2d(WIDTH)
        self.batch = nn.BatchNorm2d(WIDTH // 2)
        self.instance = nn.InstanceNorm2d(WIDTH // 2, eps=1e-2)
        self.prelu = nn.PReLU(WIDTH)
        self.fc = nn.Sequential(nn.Linear(WIDTH, 2), nn.ReLU(), nn.Linear(2, WIDTH), nn.Sigmoid())

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        if self.kind in ("cat", "add") and before.shape != x.shape:
            before = F.interpolate(before, size=x.shape[2:])
        if self.kind == "write":
            x = x * 1
            x[:, 1:3] *= 0.5
            return x
        steps: dict[str, Any] = {
            "conv": lambda: self.conv(x),
            "depthwise": lambda: self.depthwise(x),
            "shuffle": lambda: self.split(torch.channel_shuffle(F.relu(self.split(x)), 2)),
            "forward": lambda: self.split(self.bn(F.relu(x))),
            "bn": lambda: self.bn(x),
            "relu": lambda: F.relu_(x * 1),
            "prelu": lambda: self.prelu(x),
            "cat": lambda: self.merge(torch.cat([x, before], dim=1)),
            "add": lambda: x + before,
            "bilinear": lambda: F.interpolate(x, scale_factor=2, mode="bilinear"),
            "nearest": lambda: F.interpolate(x, scale_factor=2),
            "box": lambda: F.avg_pool2d(x, 3, 2, 1),
            "wide box": lambda: F.avg_pool2d(x, (7, 9), 1, (3, 4)),
            "pool": lambda: F.avg_pool2d(x, 2),
            "se": lambda: x * self.fc(F.adaptive_avg_pool2d(x, 1).view(1, -1)).view(1, -1, 1, 1).expand_as(x),
            "ibn": lambda: torch.cat([self.batch(x[:, : WIDTH // 2]), self.instance(x[:, WIDTH // 2 :])], dim=1),
        }
        return steps[self.kind]()


class Network(nn.Module):
    """Blocks between a first convolution and a head that makes one channel.

    The maps behind the blocks ``kept`` are returned beside alpha, as new values of states.
    """

    def __init__(self, blocks: list[str], head: str, kept: set[int] | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(Block(kind) for kind in blocks)
        self.scores = nn.Conv2d(WIDTH, 2, 1)
        self.coefficients = nn.Conv2d(WIDTH + 2, 3, 3, padding=1)
        self.enlarge = nn.ConvTranspose2d(WIDTH, 2, 4, 2, 1)
        self.last = nn.Conv2d(2, 1, 3, padding=1)
        self.head = head
        self.kept = kept or set()

    def forward(self, image: torch.Tensor, *hidden: torch.Tensor) -> Any:
        x = self.first(image)
        x = before = x + hidden[0] if hidden else x
        states = []
        for number, block in enumerate(self.blocks):
            x, before = block(x, before), x
            states += [x] if number in self.kept else []
        return (self.matte(x), *states) if states else self.matte(x)

    def matte(self, x: torch.Tensor) -> torch.Tensor:
        if self.head == "slice":
            return torch.sigmoid(x[:, :1])
        if self.head == "deconv":
            return torch.sigmoid(self.last(self.enlarge(F.relu(x))))
        if self.head == "doubled":
            large = self.enlarge(F.relu(x))
            return torch.sigmoid(large[:, :1] + large[:, 1:])
        scores = self.scores(x)
        if self.head == "resized softmax":
            scores = F.interpolate(scores, scale_factor=2, mode="bilinear")
        probabilities = torch.softmax(scores, dim=1)
        if self.head in ("softmax", "resized softmax"):
            return probabilities[:, 1:]
        maps = self.coefficients(torch.cat([x, probabilities], dim=1))
        if self.head == "window":
            maps = F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)
        alpha = maps[:, 0:1] * probabilities[:, 1:2] + maps[:, 1:2] * probabilities[:, 0:1] + maps[:, 2:3]
        return torch.sigmoid(alpha)


def test_random_network_keeps_its_function(randomised: Any) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=7), head=st.sampled_from(HEADS))
    # a part of a concatenation is one itself
    @example(blocks=["prelu", "ibn", "cat", "prelu"], head="resized softmax")
    # what merges reads fewer channels than its parts did
    @example(blocks=[*["conv"] * 5, "shuffle", "ibn"], head="slice")
    @example(blocks=["depthwise", "bn"], head="deconv")
    @example(blocks=["conv", "add"], head="doubled")
    def check(blocks: list[str], head: str) -> None:
        torch.manual_seed(0)
        network = randomised(Network(blocks, head))
        image = torch.randn(1, 3, 21, 27, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = network(image)

        captured = capture(network, {"image": image})
        for row in ROWS:
            rewritten, _ = apply_rewrites(captured, row, [(image,)])
            again, steps = apply_rewrites(rewritten, row, [(image,)])

            torch.testing.assert_close(run_all(rewritten, [(image,)])[0], expected, rtol=0, atol=1e-4)
            assert [step.name for step in steps if step.changes] == []
            assert again.code == rewritten.code

    check()


def test_random_recurrent_network_keeps_every_result(randomised: Any) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True, database=None)
    @given(
        blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=7),
        head=st.sampled_from(HEADS),
        kept=st.sets(st.integers(0, 6), min_size=1, max_size=2),
    )
    def check(blocks: list[str], head: str, kept: set[int]) -> None:
        torch.manual_seed(0)
        network = randomised(Network(blocks, head, {number % len(blocks) for number in kept}))
        generator = torch.Generator().manual_seed(1)
        frame = (torch.randn(1, 3, 21, 27, generator=generator), torch.randn(1, WIDTH, 21, 27, generator=generator))
        captured = capture(network, dict(zip(("image", "hidden"), frame, strict=True)))
        with torch.no_grad():
            expected = network(*frame)
        for row in ROWS:
            rewritten, _ = apply_rewrites(captured, row, [frame])

            for result, wanted in zip(run_all(rewritten, [frame]), expected, strict=True):
                magnitude = max(1.0, float(wanted.abs().max()))  # states are not bounded
                torch.testing.assert_close(result / magnitude, wanted / magnitude, rtol=0, atol=1e-4)

    check()
