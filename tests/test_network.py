"""Networks are resolved by name or file.py:callable; whatever is wrong is said in one sentence."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path

import pytest
import torch

from mobile_matting_export import bundled
from mobile_matting_export.bundled import bundled_weights, models_folder
from mobile_matting_export.errors import CheckpointError, UsageError
from mobile_matting_export.network import check_size, find_spec, load_network
from mobile_matting_export.networks import ALL
from mobile_matting_export.networks.ldn_fb import LDN_FB
from mobile_matting_export.networks.mmnet import MMNET
from mobile_matting_export.networks.modnet import MODNET
from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec

SIZE = (16, 24)
FIXED = [spec for spec in ALL if spec.fixed_size]


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_every_network_is_found_by_its_name(spec: NetworkSpec) -> None:
    assert find_spec(spec.name) is spec


@pytest.mark.parametrize(
    ("name", "near"),
    [("mmnett", "mmnet"), ("MODNet", "modnet"), ("portraitnet-video", "portraitnet_video"), ("ldn", "ldn_fb")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown network '{name}': did you mean {near}\? `mmexport networks`"):
        find_spec(name)


@pytest.mark.parametrize("name", ["qqqqqq", "", "build/mmnet"])
def test_a_name_like_no_other_is_answered_with_the_ways_to_name_one(name: str) -> None:
    with pytest.raises(UsageError, match=r"`mmexport networks` lists them all; .* path/to/file\.py:callable"):
        find_spec(name)


# --- weights and sizes -------------------------------------------------------------------------------


def test_bundled_weights_are_loaded_when_none_are_named() -> None:
    loaded = load_network("mmnet")
    path = bundled_weights("mmnet")
    assert path is not None and loaded.checkpoint is not None
    assert loaded.checkpoint.file == path.name, "where the package lies is no business of the manifest"
    assert (loaded.source, loaded.size, loaded.spec) == ("mmnet", MMNET.size, MMNET)
    assert {name: tuple(t.shape) for name, t in loaded.examples().items()} == {"image": (1, 3, 256, 256)}
    with torch.no_grad():
        alpha = loaded.module(*loaded.examples().values())
    assert alpha.shape == (1, 1, 256, 256) and alpha.min() >= 0 and alpha.max() <= 1


def test_a_network_without_bundled_weights_says_where_they_are_published(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"modnet has no bundled weights: give --checkpoint FILE\. ") as caught:
        load_network("modnet")
    assert MODNET.weights in str(caught.value)


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_weights_are_bundled_or_their_origin_is_stated(spec: NetworkSpec) -> None:
    path = bundled_weights(spec.name)
    assert spec.weights if path is None else path.suffix == ".safetensors"


def test_an_installed_wheel_looks_into_itself_not_at_a_strangers_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "mobile_matting_export" / "bundled_models"
    (own / "mmnet").mkdir(parents=True)
    (own / "mmnet" / "w.safetensors").touch()
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(bundled, "_PACKAGE", tmp_path / "mobile_matting_export")
    assert models_folder() == own
    assert bundled_weights("mmnet") == own / "mmnet" / "w.safetensors"
    assert bundled_weights("modnet") is None


def test_states_are_inputs_of_their_own(shared: Path) -> None:
    file = shared / "weights" / "portraitnet_video" / "portraitnet_video_fp16.pt"
    loaded = load_network("portraitnet_video", file, (64, 96))
    shapes = {name: tuple(t.shape) for name, t in loaded.examples().items()}
    assert shapes == {"image": (1, 3, 64, 96), "previous_alpha": (1, 1, 64, 96)}
    with torch.no_grad():
        assert loaded.module(*loaded.examples().values()).shape == (1, 1, 64, 96)


def test_a_given_image_contract_replaces_the_registrys() -> None:
    image = ImageSpec(color="BGR", mean=(1, 2, 3))
    loaded = load_network("mmnet", size=(64, 64), image=image)
    assert loaded.spec.image == image and loaded.size == (64, 64)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((250, 256), "256x256"), ((256, 100), "256x96"), ((1, 1), "16x16"), ((8, 1000), "16x992"), ((0, 16), "16x16")],
)
def test_a_size_that_does_not_divide_is_answered_with_the_nearest(size: tuple[int, int], nearest: str) -> None:
    with pytest.raises(UsageError, match=f"multiples of 16, not {size[0]}x{size[1]}; .* --size {nearest}$"):
        check_size(MMNET, size)
    check_size(MMNET, tuple(map(int, nearest.split("x"))))  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_every_networks_usual_size_fits(spec: NetworkSpec) -> None:
    check_size(spec, spec.size)


@pytest.mark.parametrize("spec", FIXED, ids=lambda spec: spec.name)
def test_a_network_of_fixed_size_takes_no_other(spec: NetworkSpec) -> None:
    height, width = spec.size
    with pytest.raises(UsageError, match=f"{spec.name} only takes {height}x{width} .*, not {2 * height}x{width}"):
        check_size(spec, (2 * height, width))


def test_an_unfit_size_is_refused_before_the_weights_are_read() -> None:
    with pytest.raises(UsageError, match="multiples of 16"):
        load_network("mmnet", Path("no-such-file.pt"), (100, 100))


# --- networks of one's own ---------------------------------------------------------------------------

MINE = """
import torch
from torch import nn

NUMBER = 3

class Net(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, image):
        return torch.sigmoid(self.conv(image))

def build():
    torch.manual_seed(0)
    return Net()

def three_maps():
    return Net(3)

def needs_width(width):
    return Net(width)

def breaks():
    raise RuntimeError("no such variant")

def leaves():
    raise SystemExit("usage: mine.py [--train]")

def a_dict():
    return {"net": 1}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_callable_brings_its_own_weights(mine: Path) -> None:
    loaded = load_network(f"{mine}:build", size=SIZE)
    assert (loaded.spec.name, loaded.spec.title, loaded.source) == ("mine_build", "Net", f"{mine}:build")
    assert loaded.checkpoint is None and loaded.size == SIZE
    assert loaded.spec.head == Head("alpha") and loaded.spec.image == ImageSpec()
    image = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(loaded.module(image), torch.sigmoid(loaded.module.net.conv(image)))
    assert not loaded.module.training


def test_a_class_is_a_callable_and_takes_a_checkpoint(mine: Path, tmp_path: Path) -> None:
    state = {"module.conv.weight": torch.ones(1, 3, 3, 3), "module.conv.bias": torch.full((1,), -2.0)}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "net.pth")
    loaded = load_network(f"{mine}:Net", tmp_path / "net.pth", SIZE, ImageSpec(color="BGR"))
    assert loaded.checkpoint is not None and loaded.checkpoint.file == str(tmp_path / "net.pth")
    assert loaded.module.net.conv.bias.item() == -2
    assert loaded.spec.image.color == "BGR"


def test_a_checkpoint_that_does_not_fit_a_callable_is_refused(mine: Path, tmp_path: Path) -> None:
    torch.save({"other": torch.ones(1)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"does not fit .*mine\.py:build: missing conv\.bias, conv\.weight"):
        load_network(f"{mine}:build", tmp_path / "net.pth", SIZE)


def test_a_callable_without_size_is_refused(mine: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.py:build: the input size .* is needed, for example --size 256x256"):
        load_network(f"{mine}:build")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("nothing", r"has no 'nothing'; callables in it: Net, build, three_maps"),
        ("", "has no ''; callables in it"),
        ("NUMBER", r"mine\.py:NUMBER failed: TypeError: 'int' object is not callable"),
        ("needs_width", "failed: TypeError: .* missing 1 required positional argument: 'width'"),
        ("breaks", r"mine\.py:breaks failed: RuntimeError: no such variant"),
        ("leaves", r"mine\.py:leaves failed: SystemExit: usage: mine\.py"),
        ("a_dict", r"mine\.py:a_dict returned dict, not a torch\.nn\.Module"),
        ("three_maps", "Net returns 1x3x16x24: no map 1x1xHxW"),
    ],
)
def test_a_callable_that_fails_is_explained(mine: Path, attribute: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_network(f"{mine}:{attribute}", size=SIZE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def build(:\n", "failed: SyntaxError: "),
        ("import no_such_module_at_all\n", "failed: ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("from .sibling import Net\n", "failed: ImportError: "),
        ("import sys; sys.exit(2)\n", "failed: SystemExit: 2"),
        ("raise ValueError('at import')\n", "failed: ValueError: at import"),
        ("", "has no 'build'; callables in it: none"),
    ],
    ids=["syntax", "missing_module", "relative_import", "exit", "raise", "empty"],
)
def test_a_file_that_does_not_import_is_explained(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    path = list(sys.path)
    with pytest.raises(UsageError, match=message):
        load_network(f"{tmp_path / 'mine.py'}:build", size=SIZE)
    assert sys.path == path


@pytest.mark.parametrize("file", ["gone.py", "folder.py"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UsageError, match=rf"network file .*{file} does not exist"):
        load_network(f"{tmp_path / file}:build", size=SIZE)


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "layers_of_mine.py").write_text(MINE)
    (tmp_path / "mine.py").write_text("from layers_of_mine import build\n")
    assert load_network(f"{tmp_path / 'mine.py'}:build", size=SIZE).spec.title == "Net"


def test_a_vendored_onnx_beside_the_file_does_not_shadow_the_real_one(mine: Path) -> None:
    (mine.parent / "onnx").mkdir()
    (mine.parent / "onnx" / "__init__.py").write_text("raise ImportError('the vendored copy')\n")
    path = list(sys.path)
    load_network(f"{mine}:build", size=SIZE)
    assert sys.path == path
    found = importlib.machinery.PathFinder.find_spec("onnx")
    assert found is not None and not str(found.origin).startswith(str(mine.parent))


def test_two_files_of_one_name_are_two_networks(tmp_path: Path) -> None:
    for folder, channels in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(
            f"from torch import nn\ndef build():\n    return nn.Conv2d(3, {channels}, 1)\n"
        )
    kinds = [load_network(f"{tmp_path / folder / 'net.py'}:build", size=SIZE).spec.head.kind for folder in "ab"]
    assert kinds == ["logit", "logits"]


def test_ldn_fb_is_bundled_too() -> None:
    assert load_network("ldn_fb").size == LDN_FB.size
