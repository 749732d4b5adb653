"""Checkpoints as users have them: read safely, or refused with a reason."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mobile_matting_export.checkpoint import read_checkpoint
from mobile_matting_export.errors import CheckpointError, UsageError

State = dict[str, torch.Tensor]
# torch's own messages advise to unpickle without looking: no user of ours may read that
BAD_ADVICE = ("weights_only", "Weights only", "add_safe_globals")


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))


def state_of(net: nn.Module) -> State:
    return {key: tensor.clone() for key, tensor in net.state_dict().items()}


def assert_same(found: Any, expected: State) -> None:
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def refusal(path: Path) -> str:
    """The sentence of the CheckpointError that reading ``path`` raises."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    sentence = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in sentence and str(path) in sentence
    assert not any(advice in sentence for advice in BAD_ADVICE)
    return sentence


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state},
    "model": lambda state: {"model": state},
    "beside_epoch_and_optimizer": lambda state: {
        "epoch": 7,
        "best": torch.tensor(0.5),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "model_state_dict": state,
    },
    "two_levels": lambda state: {"model": {"state_dict": state, "ema": 0.9}, "epoch": 1},
    "module_prefix": lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
    "lightning": lambda state: {"state_dict": {f"model.{key}": tensor for key, tensor in state.items()}},
    "compiled_and_parallel": lambda state: {f"module._orig_mod.{key}": tensor for key, tensor in state.items()},
    "settings_beside_tensors": lambda state: {**state, "params": {"lr": 1e-3}},
}


@pytest.mark.parametrize("form", WRAPPERS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_read_checkpoint_finds_the_state_dict_in_every_wrapping(tmp_path: Path, form: str, zipped: bool) -> None:
    state, path = state_of(small_net()), tmp_path / "net.pth"
    torch.save(WRAPPERS[form](state), path, _use_new_zipfile_serialization=zipped)
    assert_same(read_checkpoint(path).state, state)


def test_read_checkpoint_names_the_file_and_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(state_of(small_net()), path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.file == str(path)
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_read_checkpoint_reads_safetensors(tmp_path: Path) -> None:
    state, path = state_of(small_net()), tmp_path / "net.safetensors"
    save_file(state, path)
    read = read_checkpoint(path).state
    assert_same({key: read[key] for key in state}, state)
    assert len(read) == len(state)


def test_read_checkpoint_reads_a_torchscript_archive(tmp_path: Path) -> None:
    net, path = small_net().eval(), tmp_path / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is old; users' files are, too
        torch.jit.script(net).save(str(path))
    assert_same(read_checkpoint(path).state, state_of(net))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_read_checkpoint_widens_or_narrows_floats_and_leaves_counters(tmp_path: Path, dtype: torch.dtype) -> None:
    state, path = state_of(small_net()), tmp_path / "net.pt"
    torch.save({key: t.to(dtype) if t.is_floating_point() else t for key, t in state.items()}, path)
    read = read_checkpoint(path).state
    assert read["1.num_batches_tracked"].dtype == torch.int64
    assert read["0.weight"].dtype == torch.float32
    assert torch.equal(read["0.weight"], state["0.weight"].to(dtype).float())


def test_read_checkpoint_ends_on_a_dict_that_holds_itself(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "net.pt")
    assert "holds no state dict (found: model)" in refusal(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("value", "found"),
    [([1, 2], "list"), ({}, "nothing"), ({"epoch": 3, "lr": 0.1}, "epoch, lr"), (torch.ones(2), "Tensor")],
)
def test_read_checkpoint_refuses_a_file_without_a_state_dict(tmp_path: Path, value: object, found: str) -> None:
    torch.save(value, tmp_path / "net.pt")
    sentence = refusal(tmp_path / "net.pt")
    assert f"holds no state dict (found: {found})" in sentence
    assert "torch.save(model.state_dict()" in sentence


# --- files that cannot be read -----------------------------------------------------------------------


def test_read_checkpoint_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.pt does not exist"):
        read_checkpoint(tmp_path / "gone.pt")


def test_read_checkpoint_refuses_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"net\.pt cannot be read: Not a directory"):
        read_checkpoint(tmp_path / "file" / "net.pt")


def test_read_checkpoint_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder: name the file in it"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ckpt", "net.safetensors"])
def test_read_checkpoint_refuses_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "is empty" in refusal(tmp_path / name)


def save_zip(state: State, path: Path) -> None:
    torch.save(state, path)


def save_legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize(
    ("save", "name"),
    [(save_zip, "net.pt"), (save_legacy, "net.pth"), (save_file, "net.safetensors")],
    ids=["zip", "legacy", "safetensors"],
)
def test_read_checkpoint_refuses_a_truncated_file(
    tmp_path: Path, save: Callable[[State, Path], None], name: str, share: float
) -> None:
    path = tmp_path / name
    save(state_of(small_net()), path)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * share))])
    sentence = refusal(path)
    assert "cannot be read: it is truncated" in sentence and "download it again" in sentence


def test_read_checkpoint_refuses_a_file_that_lacks_its_last_byte(tmp_path: Path) -> None:
    for save, name in ((save_zip, "net.pt"), (save_legacy, "net.pth"), (save_file, "net.safetensors")):
        save(state_of(small_net()), tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
        assert "truncated" in refusal(tmp_path / name)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_read_checkpoint_refuses_random_bytes(tmp_path: Path, name: str, seed: int) -> None:
    (tmp_path / name).write_bytes(b"\x07" + random.Random(seed).randbytes(4000))
    assert "not a PyTorch or safetensors file" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "hello, these are no weights\n" * 9,
        "import torch\n",
        "<!DOCTYPE html><html>404</html>",
        '{"a": 1}',
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12\n",
    ],
    ids=["prose", "python", "web_page", "json", "lfs_pointer"],
)
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_read_checkpoint_does_not_take_text_for_a_pickle(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    sentence = refusal(tmp_path / name)
    assert "not a PyTorch or safetensors file" in sentence and "pickle" not in sentence


# --- files that would run code -----------------------------------------------------------------------


class Intruder:
    """Unpickling an instance would create the file that it names."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


INTRUSIONS: dict[str, Callable[[Intruder, Path], object]] = {
    "zip": lambda intruder, path: torch.save(intruder, path),
    "legacy": lambda intruder, path: torch.save(intruder, path, _use_new_zipfile_serialization=False),
    "beside_tensors": lambda intruder, path: torch.save({"state_dict": state_of(small_net()), "a": intruder}, path),
    "protocol_0": lambda intruder, path: path.write_bytes(pickle.dumps(intruder, protocol=0)),
    "protocol_2": lambda intruder, path: path.write_bytes(pickle.dumps(intruder, protocol=2)),
    "protocol_4": lambda intruder, path: path.write_bytes(pickle.dumps(intruder, protocol=4)),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("form", INTRUSIONS)
def test_read_checkpoint_runs_no_code_of_a_malicious_pickle(tmp_path: Path, form: str, suffix: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"net{suffix}"
    INTRUSIONS[form](Intruder(trace), path)
    refusal(path)
    assert not trace.exists()


def test_a_malicious_pickle_would_have_left_its_trace(tmp_path: Path) -> None:
    """The test above is worth something: plain unpickling does run the code."""
    pickle.loads(pickle.dumps(Intruder(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("form", ["zip", "legacy", "beside_tensors", "protocol_2", "protocol_4"])
def test_a_refused_pickle_says_why_and_what_to_save_instead(
    tmp_path: Path, form: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "net.pt"
    INTRUSIONS[form](Intruder(tmp_path / "trace"), path)
    sentence = refusal(path)
    assert "is refused: it is a pickle of Python objects" in sentence
    assert "unpickling would run code" in sentence
    assert "torch.save(model.state_dict(), 'state_dict.pt')" in sentence
    assert not recwarn.list, "the sentence is all that a user should read"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (small_net(), "torch.nn.modules.container.Sequential"),
        ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    ],
    ids=["whole_module", "arguments_beside_it"],
)
def test_a_refused_pickle_names_the_class_it_wanted(tmp_path: Path, value: object, name: str) -> None:
    torch.save(value, tmp_path / "net.pt")
    assert f"({name})" in refusal(tmp_path / "net.pt")


def test_the_published_pickled_module_is_refused(shared: Path) -> None:
    sentence = refusal(shared / "weights" / "segmatting" / "model_obj.pth")
    assert "(model.segnet.SegMattingNet)" in sentence
    assert "torch.save(model.state_dict(), 'state_dict.pt')" in sentence


@pytest.mark.parametrize("file", ["mediapipe/selfie_segmentation.tflite", "README.md"])
def test_other_files_beside_weights_are_no_checkpoints(shared: Path, file: str) -> None:
    assert "not a PyTorch or safetensors file" in refusal(shared / "weights" / file)
