"""TorchScript archives: the same tensors as torch reads, and no line of their program is run."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mobile_matting_export.checkpoint import read_checkpoint
from mobile_matting_export.errors import CheckpointError
from mobile_matting_export.torchscript_archive import is_torchscript_archive, read_tensors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Nested(nn.Module):
    """Containers, a shared weight, a shared module, buffers, and attributes that are no state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
        self.left, self.right = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 1)
        self.right.weight = self.left.weight
        self.layers = nn.ModuleList([nn.Conv2d(4, 1, 1), nn.Conv2d(4, 1, 1)])
        self.again = self.layers[0]
        self.register_buffer("offset", torch.arange(3))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.plain = torch.ones(5)
        self.table = {"a": torch.ones(1)}
        self.sizes = [1, 2]
        self.device = torch.device("cpu")
        self.absent = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.right(self.left(self.body(x)))
        return self.layers[0](x) + self.layers[1](x) + self.plain.sum() + self.passing.sum() + self.offset.sum()


class RestoresItself(nn.Module):
    """TorchScript calls ``__setstate__`` when the archive is loaded; this one fails loudly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.sum()

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return (self.weight * 3, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        assert state[0].sum() < 0, "the archive's own code was run"
        self.weight = state[0]
        self.training = state[1]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "flat": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8)),
    "nested": Nested,
    "half": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4)).half(),
    "bfloat": lambda: nn.Sequential(nn.Conv2d(3, 4, 3)).bfloat16(),
    "double": lambda: nn.Sequential(nn.Conv2d(3, 4, 3)).double(),
    "a_single_layer": lambda: nn.Conv2d(3, 1, 1),
}


def saved(form: str, net: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is old; users' files are, too
        if form == "scripted":
            torch.jit.script(net).save(str(path))
        else:
            example = torch.rand(1, 3, 8, 8).to(next(net.parameters()).dtype)
            torch.jit.trace(net, example).save(str(path))
    return path


def rewritten(source: Path, target: Path, name: str, content: bytes) -> Path:
    """A copy of an archive with one record replaced; ``name`` without the root folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry.partition("/")[2] == name else old.read(entry))
    return target


@pytest.mark.parametrize("form", ["scripted", "traced"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tensors_are_those_that_torch_reads(tmp_path: Path, form: str, name: str) -> None:
    torch.manual_seed(0)
    path = saved(form, NETWORKS[name]().eval(), tmp_path / "net.pt")
    assert is_torchscript_archive(path)
    expected = torch.jit.load(str(path)).state_dict()
    found = read_tensors(path)
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


def test_shared_tensors_share_memory(tmp_path: Path) -> None:
    found = read_tensors(saved("scripted", Nested().eval(), tmp_path / "net.pt"))
    assert found["left.weight"].data_ptr() == found["right.weight"].data_ptr()
    assert found["layers.0.weight"].data_ptr() == found["again.weight"].data_ptr()


def test_views_into_one_storage_come_out_right(tmp_path: Path) -> None:
    net = nn.Conv2d(3, 1, 1)
    numbers = torch.arange(20.0).view(4, 5)
    net.register_buffer("column", numbers[:, 3])
    net.register_buffer("turned", numbers.t())
    found = read_tensors(saved("scripted", net, tmp_path / "net.pt"))
    assert torch.equal(found["column"], numbers[:, 3])
    assert torch.equal(found["turned"], numbers.t())


def test_a_saved_state_dict_is_no_archive(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), tmp_path / "net.pt")
    (tmp_path / "text.pt").write_text("no zip")
    assert not is_torchscript_archive(tmp_path / "net.pt")
    assert not is_torchscript_archive(tmp_path / "text.pt")


# --- code in the archive -----------------------------------------------------------------------------


def test_setstate_is_not_run_and_its_module_left_out(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1), RestoresItself())
    path = saved("scripted", net, tmp_path / "net.pt")
    with pytest.raises(torch.jit.Error, match="the archive's own code was run"):
        torch.jit.load(str(path))
    assert list(read_tensors(path)) == ["0.weight", "0.bias"]
    assert list(read_checkpoint(path).state) == ["0.weight", "0.bias"]


def calling(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls ``module.name(argument)``."""
    text = argument.encode()
    return f"c{module}\n{name}\n".encode() + b"X" + len(text).to_bytes(4, "little") + text + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.jit", "load"),
     ("collections", "defaultdict"), ("torch._utils", "_rebuild_tensor"), ("pickle", "loads")],
)  # fmt: skip
def test_a_pickle_that_names_anything_else_is_refused(tmp_path: Path, module: str, name: str) -> None:
    good = saved("scripted", nn.Conv2d(3, 1, 1), tmp_path / "good.pt")
    trace = tmp_path / "trace"
    path = rewritten(good, tmp_path / "net.pt", "data.pkl", calling(module, name, f"touch {trace}"))
    for read in (read_tensors, read_checkpoint):
        with pytest.raises(CheckpointError, match=rf"net\.pt is refused: its data names {module}\.{name}"):
            read(path)
    assert not trace.exists()


def test_the_crafted_pickle_would_have_left_its_trace(tmp_path: Path) -> None:
    """The test above is worth something: plain unpickling does run the command."""
    pickle.loads(calling("os", "system", f"touch {tmp_path / 'trace'}"))
    assert (tmp_path / "trace").exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    good = saved("scripted", nn.Conv2d(3, 1, 1, bias=False), tmp_path / "good.pt")
    with zipfile.ZipFile(good) as archive:
        content = archive.read("good/data.pkl")
    # the weight's size 1x3x1x1, as the pickle spells it: a tuple of small numbers
    assert content.count(b"(K\x01K\x03K\x01K\x01t") == 1
    large = content.replace(b"(K\x01K\x03K\x01K\x01t", b"(K\x01K\xffK\x01K\x01t")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_tensors(rewritten(good, tmp_path / "net.pt", "data.pkl", large))


# --- damaged archives --------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = saved("scripted", Nested().eval(), tmp_path / "net.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_tensors, read_checkpoint):
        with pytest.raises(CheckpointError, match=r"net\.pt cannot be read.*truncated.*download it again"):
            read(path)


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_a_damaged_record_is_refused(tmp_path: Path, name: str) -> None:
    good = saved("scripted", nn.Conv2d(3, 1, 1), tmp_path / "good.pt")
    with zipfile.ZipFile(good) as archive:
        half = archive.read(f"good/{name}")
    path = rewritten(good, tmp_path / "net.pt", name, half[: len(half) // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_tensors(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = saved("scripted", nn.Conv2d(3, 8, 3), tmp_path / "net.pt")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        numbers = archive.read("net/data/0")
    content[bytes(content).index(numbers)] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"truncated or damaged \(BadZipFile\)"):
        read_tensors(path)


def test_numbers_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    good = saved("scripted", nn.Conv2d(3, 1, 1), tmp_path / "good.pt")
    with pytest.raises(CheckpointError, match="the other byte order"):
        read_tensors(rewritten(good, tmp_path / "net.pt", "byteorder", b"big"))
