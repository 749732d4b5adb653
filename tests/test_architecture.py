"""The layers hold: who may import whom, and what must cost nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mobile_matting_export"
MAX_LINES = 300

# who may import which of our own modules; a name covers everything below it
_QUANTITIES = (
    "quantization.io_kind",
    "quantization.histogram",
    "quantization.layer",
    "quantization.ranges",
    "quantization.fake_quantize",
)
_PIPELINE = ("artifact", "graph", "network", "networks.spec", "one_thread", "parity", "rewrites", "targets", "errors")
ALLOWED: dict[str, tuple[str, ...]] = {
    "announce": (),
    "errors": (),
    "networks": ("networks",),
    "graph": ("graph", "errors"),
    "rewrites": ("rewrites.rewrite", "graph", "errors"),
    "formats": (),
    "formats.format": ("graph", *_QUANTITIES, "errors"),
    "formats.silence": ("errors",),
    "formats.byte_image": ("errors",),
    "formats.tflite": (
        *("formats.tflite", "formats.format", "formats.byte_image", "formats.silence", "graph", "errors"),
        *(*_QUANTITIES, "quantization.choose_range"),
    ),
    "formats.ncnn": (
        *("formats.ncnn", "formats.format", "formats.silence", "graph", "errors"),
        *(*_QUANTITIES, "quantization.choose_range"),
    ),
    "formats.tflite.read_graph": ("formats.tflite", "inspection", "errors"),
    "formats.tflite.find_fp16_hazards": ("formats.tflite", "inspection", "errors"),
    "formats.ncnn.read_graph": ("formats.ncnn", "inspection", "errors"),
    "formats.onnx": ("formats.onnx", "formats.format", "formats.byte_image", "formats.silence", "graph", "errors"),
    "artifact": ("errors",),
    "torchscript_archive": ("errors",),
    "checkpoint": ("torchscript_archive", "errors"),
    "images": ("networks.spec", "errors"),
    "procedural_portraits": (),
    "composite": ("images", "errors"),
    "find_states": ("networks.spec", "errors"),
    "alpha_network": ("find_states", "networks.spec", "errors"),
    "bundled": (),
    "one_thread": (),
    "doctor": ("bundled", "errors"),
    "network": ("networks", "alpha_network", "bundled", "checkpoint", "find_states", "images", "errors"),
    "choices": ("rewrites",),
    "targets": ("choices", "rewrites", "formats", "errors"),
    "parity": ("formats.format", "images", "network", "procedural_portraits", "targets", "errors"),
    "calibration": (*("images", "network", "parity", "procedural_portraits", "read_calibration_arrays", "errors"),),
    "read_calibration_arrays": ("network", "errors"),
    "quantization": ("announce", "quantization", "errors"),
    "quantization.fake_quantize": ("quantization", "graph"),
    "quantization.int8_student": ("quantization", "graph"),
    "quantization.tune_weights": ("announce", "quantization", "rewrites.rewrite"),
    "quantization.round_by_error_feedback": ("quantization", "graph", "rewrites.rewrite"),
    "quantization.score": ("quantization", "metrics"),
    "quantization.judge_plan": ("quantization", "fingerprint", "formats.format", "parity", "result_cache", "errors"),
    "quantization.observe_once": ("quantization", "fingerprint", "result_cache"),
    "quantization.measure_stability": (
        *("formats.format", "images", "metrics", "network", "parity", "quantization", "errors"),
    ),
    "manifest": (*_PIPELINE, "formats.tflite"),
    "choose_int8_ways": ("formats.format", "network", "quantization.io_kind", "targets", "errors"),
    "describe_int8": ("calibration", "make_int8", "parity", "quantization"),
    "second_opinion": ("formats", "errors"),
    "result_cache": ("errors",),
    "fingerprint": ("images", "network", "errors"),
    "list_vulkan_drivers": (),
    "lower_once": ("fingerprint", "formats.format", "result_cache", "errors"),
    "artifact_key": ("fingerprint", "list_vulkan_drivers", "parity", "targets", "errors"),
    "int8_wish": ("quantization",),
    "vary_int8": (
        "announce",
        "int8_wish",
        *("calibration", "fingerprint", "formats.format", "network", "quantization", "result_cache", "rewrites"),
        *("targets", "errors"),
    ),
    "make_int8": (
        "announce",
        *(
            "calibration",
            "formats.format",
            "network",
            "quantization",
            "result_cache",
            "targets",
            "int8_wish",
            "vary_int8",
            "errors",
        ),
        "choose_int8_ways",
    ),
    "job": ("int8_wish", "network", "quantization", "result_cache", "targets", "time_forms"),
    "prepare_network": (
        "announce",
        *(*_PIPELINE, "artifact_key", "autotune", "calibration", "fingerprint", "job"),
    ),
    "lower_target": (
        *("formats.format", "lower_once", "prepare_network", "result_cache", "second_opinion", "targets"),
    ),
    "convert": (
        "announce",
        *(*_PIPELINE, "describe_int8", "fingerprint", "job", "lower_target", "make_int8", "manifest"),
        *("predict_hazards", "prepare_network", "quantization", "report", "require_acceleration", "result_cache"),
        *("autotune", "blame", "choose_int8_ways", "collect_rarely", "second_opinion"),
        *("time_forms", "vary_int8"),
    ),
    "autotune": ("announce", "bootstrap", "choices", "fingerprint", "result_cache", "targets", "errors"),
    "time_in_rounds": (),
    "time_forms": ("announce", "parity", "targets", "time_in_rounds", "errors"),
    "blame": ("formats.format", "manifest", "network", "parity"),
    "matte": ("artifact", "composite", "formats.format", "images", "networks.spec", "targets", "errors"),
    "verify": ("announce", *_PIPELINE, "bundled", "matte"),
    "metrics": ("errors",),
    "bootstrap": (),
    "collect_rarely": (),
    "data_set": ("images", "errors"),
    "contestant": (*_PIPELINE, "formats.format", "images", "matte"),
    "evaluate": ("announce", "bootstrap", "contestant", "data_set", "images", "metrics", "errors"),
    "write_evaluation": ("artifact", "evaluate", "report", "errors"),
    "report": (
        *("report", "composite", "images", "matte", "metrics", "networks.spec", "artifact", "parity", "errors"),
        "evaluate",  # the data of its page
    ),
    "report.trade_off_page": ("report", "matte", "trade_off", "errors"),
    "report.inspection_page": ("report.page", "group_refusals", "inspection", "errors"),
    "report.model_explorer": ("artifact", "inspection", "errors"),
    "inspection": (),
    "group_refusals": ("inspection",),
    "delegates": ("delegates", "inspection"),
    "require_acceleration": ("delegates", "formats.tflite", "group_refusals", "errors"),
    "predict_hazards": ("artifact", "formats.tflite", "images", "inspection", "matte", "networks.spec", "errors"),
    "inspect_artifact": (
        *("artifact", "delegates", "formats.tflite", "formats.ncnn", "inspection", "predict_hazards", "errors"),
        "networks.spec",
    ),
    "time_operations": ("formats.ncnn", "inspection"),
    "read_facts": ("artifact", "quantization.budget", "errors"),
    "make_references": (
        *("announce", "artifact", "images", "network", "one_thread", "parity", "read_facts", "verify", "errors"),
    ),
    "score_artifact": ("artifact", "one_thread", "parity", "quantization.score", "read_facts", "targets", "errors"),
    "trade_off": ("artifact", "read_facts", "score_artifact", "errors"),
    "time_here": ("artifact", "images", "matte", "time_in_rounds"),
    "fit": (
        "announce",
        *(*_PIPELINE, "contestant", "convert", "data_set", "evaluate", "images", "matte", "metrics"),
        *("result_cache", "time_here"),
    ),
    "demo": (*_PIPELINE, "convert", "formats.format", "images", "matte", "report"),
    "cli": ("",),  # the top: it may call everything
}


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, at run time) for every import; imports under TYPE_CHECKING cost and bind nothing."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node not in typing_only
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layers"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in names if (ROOT / Path(*name.split("."))).with_suffix(".py").is_file()]
            for name in known or [str(node.module)]:
                yield name, node not in typing_only


def _covers(allowed: tuple[str, ...], module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", _modules(PACKAGE), ids=_dotted)
def test_module_imports_only_the_layers_below_it(path: Path) -> None:
    module = _dotted(path).removeprefix(f"{PACKAGE}.")
    if module == PACKAGE:
        pytest.skip("the package itself imports lazily, by name")
    layer = max((name for name in ALLOWED if _covers((name,), module)), key=len, default=None)
    assert layer is not None, f"{module} has no row in ALLOWED: say which layers it may import"
    ours = [name for name, _ in _imports(path) if name.startswith(PACKAGE)]
    inner = [name.removeprefix(PACKAGE).lstrip(".") for name in ours]
    assert module == "" or not any(_covers(("cli",), name) for name in inner if not module.startswith("cli"))
    # ``from package import __version__`` names the package itself, which costs nothing
    forbidden = [name for name in inner if name and layer != "cli" and not _covers(ALLOWED[layer], name)]
    assert not forbidden, f"{module} may not import {forbidden}"


@pytest.mark.parametrize("name", ALLOWED)
def test_a_row_is_of_something(name: str) -> None:
    path = ROOT / PACKAGE / Path(*filter(None, name.split(".")))
    assert path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("path", _modules("android_bench"), ids=_dotted)
def test_android_bench_knows_neither_the_exporter_nor_torch(path: Path) -> None:
    imported = {name.split(".")[0] for name, _ in _imports(path)}
    assert not imported & {PACKAGE, "torch"}


@pytest.mark.parametrize("path", _modules(f"{PACKAGE}/networks"), ids=_dotted)
def test_networks_need_torch_only(path: Path) -> None:
    foreign = {name.split(".")[0] for name, _ in _imports(path)} - set(sys.stdlib_module_names)
    assert foreign <= {"torch", PACKAGE}


@pytest.mark.parametrize("path", _modules(f"{PACKAGE}/networks"), ids=_dotted)
def test_a_network_uses_no_other_network(path: Path) -> None:
    module = _dotted(path)
    if module == f"{PACKAGE}.networks":
        pytest.skip("the registry names them all")
    shared = {f"{PACKAGE}.networks.spec", f"{PACKAGE}.networks.blocks"}
    assert {name for name, _ in _imports(path) if name.startswith(PACKAGE)} <= shared


def test_artifact_needs_only_the_standard_library() -> None:
    imported = {name.split(".")[0] for name, _ in _imports(ROOT / PACKAGE / "artifact.py")}
    assert imported <= set(sys.stdlib_module_names) | {PACKAGE}


@pytest.mark.parametrize("package", [PACKAGE, f"{PACKAGE}.artifact", f"{PACKAGE}.cli.main", "android_bench"])
def test_import_is_light(package: str) -> None:
    heavy = "{'torch', 'numpy', 'litert_torch', 'onnx', 'ncnn', 'cv2', 'rich', 'jinja2'}"
    code = f"import sys, {package}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*_modules(PACKAGE), *_modules("android_bench"), *_modules("models")], ids=_dotted)
def test_file_holds_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", _modules("models"), ids=_dotted)
def test_recipes_have_no_relative_imports(path: Path) -> None:
    for _ in _imports(path):  # raises at a relative import
        pass


@pytest.mark.parametrize("path", [*_modules(PACKAGE), *_modules("android_bench")], ids=_dotted)
def test_module_says_what_it_is_for(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    if not source.strip():
        pytest.skip("an empty __init__ has nothing to say")
    assert ast.get_docstring(ast.parse(source)), f"{path} has no docstring"


@pytest.mark.parametrize("path", sorted((ROOT / PACKAGE / "rewrites").glob("*.py")), ids=lambda p: p.stem)
def test_rewrites_edit_graphs_through_surgery_only(path: Path) -> None:
    edits = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", None) in ("args", "target"))
        or (isinstance(node, ast.Attribute) and node.attr in ("erase_node", "inserting_before", "replace_input_with"))
    ]
    assert not edits


@pytest.mark.parametrize("path", sorted((ROOT / PACKAGE / "rewrites").glob("*.py")), ids=lambda p: p.stem)
def test_every_rewrite_has_a_test_of_its_name(path: Path) -> None:
    if path.stem == "__init__":
        pytest.skip("no rewrite")
    assert (ROOT / "tests" / "rewrites" / f"test_{path.stem}.py").is_file()
