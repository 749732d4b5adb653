"""Two networks, graphs or folders of pictures have one fingerprint only when they are the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mobile_matting_export.fingerprint import (
    contract_state,
    digest,
    environment,
    graph_state,
    network_state,
    pictures_state,
)
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.networks.spec import ImageSpec


@pytest.fixture
def network() -> LoadedNetwork:
    return load_network("ldn_fb")


def halve_a_weight(network: LoadedNetwork) -> None:
    with torch.no_grad():
        next(iter(network.module.parameters())).mul_(0.5)


def widen_a_stride(network: LoadedNetwork) -> None:
    next(m for m in network.module.modules() if isinstance(m, nn.Conv2d)).stride = (3, 3)


def replace_a_layer(network: LoadedNetwork) -> None:
    parent, name = next(
        (parent, name)
        for parent in network.module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.MaxPool2d)
    )
    setattr(parent, name, nn.Identity())


def add_a_buffer_beside_the_state_dict(network: LoadedNetwork) -> None:
    network.module.register_buffer("shift", torch.zeros(1), persistent=False)


CHANGES = (halve_a_weight, widen_a_stride, replace_a_layer, add_a_buffer_beside_the_state_dict)


def test_the_same_network_loaded_twice_has_one_state(network: LoadedNetwork) -> None:
    assert network_state(network) == network_state(load_network("ldn_fb")) is not None


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_module_has_another_state(network: LoadedNetwork, change: Callable[[LoadedNetwork], None]) -> None:
    before = network_state(network)
    change(network)
    after = network_state(network)
    assert after is not None
    assert after != before


def test_another_size_picture_contract_or_file_name_is_another_state(network: LoadedNetwork) -> None:
    assert network.checkpoint is not None
    others = [
        replace(network, size=(256, 256)),
        replace(network, spec=replace(network.spec, image=ImageSpec("BGR"))),
        replace(network, checkpoint=replace(network.checkpoint, file="other.pt")),
    ]
    assert len({network_state(network), *map(network_state, others)}) == 4
    assert len({contract_state(network), *map(contract_state, others)}) == 4


def test_code_that_may_be_anything_has_no_state(network: LoadedNetwork) -> None:
    class Own(nn.ReLU):
        pass

    changed = load_network("ldn_fb")
    changed.module.add_module("own", Own())
    assert network_state(changed) is None

    changed = load_network("ldn_fb")
    changed.module.forward = lambda image: image  # type: ignore[method-assign]
    assert network_state(changed) is None

    network.module.register_forward_hook(lambda module, inputs, output: output * 0.5)
    assert network_state(network) is None


class Scaled(nn.Module):
    def __init__(self, factor: float, shift: torch.Tensor) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("shift", shift)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.factor + self.shift


def scaled(factor: float, shift: float, size: int = 4) -> str:
    return graph_state(capture(Scaled(factor, torch.tensor([shift])), {"image": torch.zeros(1, 1, size, size)}))


def test_a_graph_is_its_code_and_its_tensors() -> None:
    assert scaled(2.0, 1.0) == scaled(2.0, 1.0)
    assert len({scaled(2.0, 1.0), scaled(2.0000001, 1.0), scaled(2.0, 1.0000001)}) == 3


def test_pictures_are_their_names_and_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    before = pictures_state(tmp_path)
    assert pictures_state(tmp_path) == before != pictures_state(None)
    (tmp_path / "b.png").write_bytes(b"c.png")
    changed = pictures_state(tmp_path)
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert len({before, changed, pictures_state(tmp_path)}) == 3


def test_the_environment_is_the_same_in_another_process() -> None:
    code = "from mobile_matting_export.fingerprint import environment; print(environment())"
    told = [
        subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True) for _ in "12"
    ]
    assert told[0].stdout == told[1].stdout
    assert len(environment()) == 64


def test_a_digest_tells_where_a_text_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("1:a") != digest("a")
    assert digest("a", "b") == digest("a", "b")
