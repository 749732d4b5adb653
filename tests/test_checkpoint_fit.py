"""A checkpoint fits its network strictly; what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from mobile_matting_export.checkpoint import Checkpoint, load_strictly, read_checkpoint
from mobile_matting_export.errors import CheckpointError
from mobile_matting_export.network import load_network

State = dict[str, torch.Tensor]


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))


def assert_same(found: Mapping[str, torch.Tensor], expected: State) -> None:
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def loaded_by(net: nn.Module, state: State, duplicates: dict[str, str] | None = None) -> State:
    """What ``net`` holds after ``state`` was loaded into it."""
    load_strictly(net, Checkpoint("net.pt", "", state), duplicates or {}, "small")
    return dict(net.state_dict())


def misfit(state: State, duplicates: dict[str, str] | None = None, net: nn.Module | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        loaded_by(net or small_net(), state, duplicates)
    assert caught.value.exit_code == 3 and "net.pt" in str(caught.value)
    return str(caught.value)


def other_values() -> State:
    return {key: tensor + 1 for key, tensor in small_net().state_dict().items()}


def test_load_strictly_loads_every_tensor() -> None:
    assert_same(loaded_by(small_net(), other_values()), other_values())


def test_load_strictly_does_without_the_counters_of_batches() -> None:
    state = other_values()
    del state["1.num_batches_tracked"]
    found = loaded_by(small_net(), state)
    assert found.pop("1.num_batches_tracked") == 0
    assert_same(found, state)


@pytest.mark.parametrize("child", ["model", "net", "module"])
def test_a_network_whose_only_child_is_named_like_a_wrapper_fits(tmp_path: Path, child: str) -> None:
    net = nn.Module()
    net.add_module(child, small_net())
    state = {key: tensor + 1 for key, tensor in net.state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    load_strictly(net, read_checkpoint(tmp_path / "net.pt"), {}, "wrapped")
    assert_same(net.state_dict(), state)


def test_a_network_without_tensors_is_no_endless_loop() -> None:
    assert "unexpected 0.bias, 0.weight" in misfit(other_values(), net=nn.Identity())


def test_missing_and_unexpected_keys_are_named() -> None:
    state = other_values()
    state["0.wieght"] = state.pop("0.weight")
    sentence = misfit(state)
    assert "does not fit small: missing 0.weight; unexpected 0.wieght." in sentence


def test_many_missing_keys_are_counted_not_listed() -> None:
    assert "missing 0.bias, 0.weight, 1.bias, 1.running_mean and 2 more; unexpected other" in misfit(
        {"other": torch.ones(1)}
    )


def test_wrong_shapes_are_named_with_both_sizes() -> None:
    state = other_values()
    state["0.weight"] = torch.ones(16, 3, 3, 3)
    state["0.bias"] = torch.ones(())
    sentence = misfit(state)
    assert "0.weight is 16x3x3x3, expected 8x3x3x3" in sentence
    assert "0.bias is a number, expected 8" in sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    state = other_values()
    state["0.weight"][0, 0, 0, 0] = value
    assert "holds NaN or infinity in 0.weight" in misfit(state)


def test_quantized_weights_are_refused() -> None:
    state = other_values()
    state["0.weight"] = state["0.weight"].to(torch.int8)
    sentence = misfit(state)
    assert "torch.int8 numbers in 0.weight" in sentence and "floating-point" in sentence


class Twins(nn.Module):
    """One backbone under two names, as MODNet publishes it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = small_net()
        self.branch = nn.Module()
        self.branch.backbone = self.backbone


DUPLICATES = {"branch.backbone.": "backbone."}


def twin_values() -> State:
    return {key: tensor + 1 for key, tensor in Twins().state_dict().items()}


def test_an_absent_copy_of_the_backbone_is_filled_in() -> None:
    single = {key: tensor for key, tensor in twin_values().items() if key.startswith("backbone.")}
    assert_same(loaded_by(Twins(), single, DUPLICATES), twin_values())


def test_agreeing_copies_of_the_backbone_are_taken() -> None:
    assert_same(loaded_by(Twins(), twin_values(), DUPLICATES), twin_values())


def test_disagreeing_copies_of_the_backbone_are_refused() -> None:
    state = twin_values()
    state["branch.backbone.0.weight"] = state["branch.backbone.0.weight"] + 1e-6
    sentence = misfit(state, DUPLICATES, Twins())
    assert "branch.backbone.0.weight and backbone.0.weight should be one tensor but differ" in sentence


def test_a_copy_that_is_not_declared_is_unexpected() -> None:
    assert "missing branch.backbone.0.bias" in misfit(
        {key: tensor for key, tensor in twin_values().items() if key.startswith("backbone.")}, {}, Twins()
    )


# --- published files ---------------------------------------------------------------------------------

PUBLISHED = [
    ("mmnet", "mmnet/MMNet_1.0_887000.pt"),
    ("mmnet", "mmnet/MMNet_1.0_887000.safetensors"),
    ("mmnet", "mmnet_ours/mmnet_256_start.safetensors"),
    ("segmatting", "segmatting/ckpt_lastest.pth"),
    ("portraitnet_video", "portraitnet_video/portraitnet_video_fp16.pt"),
    ("ldn_fb", "ldn_fb/ldn_fb_128.safetensors"),
]


@pytest.mark.parametrize(("network", "file"), PUBLISHED)
def test_published_weights_load_strictly(shared: Path, network: str, file: str) -> None:
    loaded = load_network(network, shared / "weights" / file)
    read = read_checkpoint(shared / "weights" / file).state
    held = loaded.module.net.state_dict()
    assert read and all(torch.equal(held[key], tensor) for key, tensor in read.items())
    assert all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.int64) for t in held.values())


def test_the_two_published_forms_of_mmnet_are_equal(shared: Path) -> None:
    pickled = read_checkpoint(shared / "weights" / "mmnet" / "MMNet_1.0_887000.pt").state
    plain = read_checkpoint(shared / "weights" / "mmnet" / "MMNet_1.0_887000.safetensors").state
    assert_same({key: plain[key] for key in pickled}, dict(pickled))


@pytest.mark.parametrize("file", ["sinet/SINet.pth", "extremec3/ExtremeC3.pth"])
@pytest.mark.parametrize("network", ["mmnet", "portraitnet", "portraitnet_video", "modnet", "ldn_fb"])
def test_weights_of_an_unknown_network_are_refused_without_a_wrong_hint(shared: Path, network: str, file: str) -> None:
    with pytest.raises(CheckpointError, match=f"does not fit {network}: missing .*; unexpected (?!none)") as caught:
        load_network(network, shared / "weights" / file)
    assert "Its tensors fit" not in str(caught.value)


@pytest.mark.parametrize(("owner", "file"), PUBLISHED)
def test_weights_of_another_network_are_refused_with_the_owner_named(shared: Path, owner: str, file: str) -> None:
    for wrong in ("mobilenet_dilate_unet", "mmnet_050"):
        with pytest.raises(CheckpointError, match=rf"does not fit {wrong}: .* Its tensors fit {owner}\.$"):
            load_network(wrong, shared / "weights" / file)
