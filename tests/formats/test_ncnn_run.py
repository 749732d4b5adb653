from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.formats.ncnn import NCNN, net, worker
from mobile_matting_export.formats.ncnn.param import parse, read
from mobile_matting_export.formats.ncnn.run import WorkerSession
from mobile_matting_export.graph.capture import capture

SIZE = (24, 40)


@pytest.fixture(scope="module")
def graph() -> ExportGraph:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1),  # the only one with more than SMALL_WEIGHT weights
        nn.InstanceNorm2d(40, affine=True),
        nn.PReLU(40),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        nn.Conv2d(40, 1, 3, padding=1),
        nn.Sigmoid(),
    )
    inputs = {"image": torch.rand(1, 3, *SIZE)}
    return ExportGraph(capture(network.eval(), inputs), inputs)


@pytest.fixture(scope="module")
def files(graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return NCNN.emit(graph, "fp16", tmp_path_factory.mktemp("artifact"), "net")


@pytest.fixture(scope="module")
def frame(graph: ExportGraph) -> dict[str, np.ndarray]:
    return {name: example.numpy() for name, example in graph.inputs.items()}


@pytest.fixture(scope="module")
def expected(graph: ExportGraph) -> np.ndarray:
    with torch.no_grad():
        return graph.module(*graph.inputs.values()).numpy()


@pytest.fixture(scope="module")
def on_device(files: tuple[Path, ...]) -> Iterator[WorkerSession]:
    session = WorkerSession(files)
    yield session
    session.close()


def copy_of(files: tuple[Path, ...], folder: Path) -> tuple[Path, Path]:
    param, weights = (folder / path.name for path in files)
    for old, new in zip(files, (param, weights), strict=True):
        new.write_bytes(old.read_bytes())
    return param, weights


@pytest.mark.toolchain
def test_cpu_session_rounds_weights_but_computes_in_fp32(
    graph: ExportGraph, frame: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The fp16 file must agree with PyTorch on the very weights that the file holds."""
    import copy

    rounded = copy.deepcopy(graph.module)
    for name, tensor in rounded.state_dict().items():
        if tensor.numel() > SMALL_WEIGHT:
            rounded.state_dict()[name].copy_(tensor.half().float())
    with torch.no_grad():
        expected = rounded(*graph.inputs.values()).numpy()
    session = NCNN.open(NCNN.emit(graph, "fp16", tmp_path, "net"), "cpu")
    assert session.device == "cpu"  # type: ignore[attr-defined]
    assert np.abs(session.run(frame)["alpha"] - expected).max() < 1e-5
    session.close()


@pytest.mark.toolchain
def test_cpu_session_repeats_itself_and_owns_its_memory(files: tuple[Path, ...], frame: dict[str, np.ndarray]) -> None:
    session = NCNN.open(files, "cpu")
    first = session.run(frame)["alpha"]
    kept = first.copy()
    for seed in range(20):
        # temporaries that nothing else keeps alive: ncnn's Mat would read freed memory
        other = np.random.default_rng(seed).random((1, 3, *SIZE), dtype=np.float32)
        assert np.abs(session.run({"image": other.astype(np.float64)})["alpha"] - first).max() > 1e-4
        gc.collect()
    np.testing.assert_array_equal(session.run({"image": frame["image"].astype(np.float64)})["alpha"], kept)
    # a view with foreign strides is the same picture
    mirrored = np.ascontiguousarray(frame["image"][..., ::-1])[..., ::-1]
    np.testing.assert_array_equal(session.run({"image": mirrored})["alpha"], kept)
    session.close()
    np.testing.assert_array_equal(first, kept)


@pytest.mark.toolchain
def test_other_size_than_the_files_is_refused(files: tuple[Path, ...]) -> None:
    session = NCNN.open(files, "cpu")
    with pytest.raises(UsageError, match="the size is fixed at conversion"):
        session.run({"image": np.zeros((1, 3, 48, 80), np.float32)})
    session.close()


@pytest.mark.toolchain
def test_missing_and_unknown_inputs_are_refused(files: tuple[Path, ...], frame: dict[str, np.ndarray]) -> None:
    session = NCNN.open(files, "cpu")
    with pytest.raises(UsageError, match=r"takes the inputs \['image'\], got \['picture'\]"):
        session.run({"picture": frame["image"]})
    session.close()


@pytest.mark.toolchain
def test_ops_are_counted_without_inputs(files: tuple[Path, ...]) -> None:
    counts = NCNN.count_ops(files)
    assert counts == {"Convolution": 2, "InstanceNorm": 1, "PReLU": 1, "Pooling": 1}


@pytest.mark.toolchain
@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_truncated_weights_are_refused(accelerator: str, files: tuple[Path, ...], tmp_path: Path) -> None:
    param, weights = copy_of(files, tmp_path)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"cannot load .*\.bin .* damaged or incomplete"):
        NCNN.open((param, weights), accelerator)


@pytest.mark.toolchain
def test_unknown_layer_type_is_refused(files: tuple[Path, ...], tmp_path: Path) -> None:
    param, weights = copy_of(files, tmp_path)
    param.write_text(param.read_text().replace("InstanceNorm ", "NoSuchLayer  "))
    with pytest.raises(UsageError, match=r"cannot load .*\.param"):
        NCNN.open((param, weights), "cpu")


@pytest.mark.toolchain
def test_network_without_stated_sizes_is_refused(files: tuple[Path, ...], tmp_path: Path) -> None:
    param, weights = copy_of(files, tmp_path)
    param.write_text(param.read_text().replace(" 0=40 1=24 2=3", ""))
    with pytest.raises(UsageError, match="does not state the size"):
        NCNN.open((param, weights), "cpu")


@pytest.mark.toolchain
def test_runtime_that_fails_inside_the_network_is_reported(
    files: tuple[Path, ...], frame: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = net.LoadedNet(files, net.strict_fp32)
    monkeypatch.setattr(loaded, "_outputs", ("nowhere",))
    with pytest.raises(ConversionError, match=r"could not compute output 'nowhere' .*code -1"):
        loaded.run(frame)


@pytest.mark.parametrize("text", ["garbage", "", "7767517\n1 1\n", "\x00\x01"])
def test_garbage_param_is_refused(text: str, tmp_path: Path) -> None:
    files = (tmp_path / "net.ncnn.param", tmp_path / "net.ncnn.bin")
    files[0].write_text(text)
    files[1].write_bytes(b"")
    with pytest.raises(UsageError, match="no ncnn network"):
        NCNN.open(files, "cpu")
    with pytest.raises(UsageError, match="no ncnn network"):
        NCNN.count_ops(files)


def test_binary_param_is_refused(tmp_path: Path) -> None:
    files = (tmp_path / "net.ncnn.param", tmp_path / "net.ncnn.bin")
    files[0].write_bytes(b"\xff\xfe")
    files[1].write_bytes(b"")
    with pytest.raises(UsageError, match="not ASCII"):
        NCNN.open(files, "cpu")


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_missing_files_are_named(accelerator: str, tmp_path: Path) -> None:
    param, weights = tmp_path / "net.ncnn.param", tmp_path / "net.ncnn.bin"
    param.write_text("7767517\n0 0\n")
    with pytest.raises(UsageError, match=r"needs a \.bin file"):
        NCNN.open((param,), accelerator)
    with pytest.raises(UsageError, match=r"net\.ncnn\.bin is missing"):
        NCNN.open((param, weights), accelerator)


def test_unknown_accelerator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'cpu', 'gpu' or 'gpu-fp32', not on 'npu'"):
        NCNN.open((tmp_path / "net.ncnn.param", tmp_path / "net.ncnn.bin"), "npu")


def test_frames_survive_the_pipe_and_a_cut_frame_is_an_end(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "file": np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3),
        "image": np.zeros((1, 3, 1, 1)),
    }
    path = tmp_path / "pipe"
    with path.open("wb") as stream:
        worker.write_frame(stream, worker.ARRAYS, worker.pack(arrays))
    with path.open("rb") as stream:
        frame = worker.read_frame(stream)
        assert worker.read_frame(stream) is None
    assert frame is not None
    kind, payload = frame
    assert kind == worker.ARRAYS
    assert {name: array.tolist() for name, array in worker.unpack(payload).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    path.write_bytes(path.read_bytes()[:-1])
    with path.open("rb") as stream:
        assert worker.read_frame(stream) is None


@pytest.mark.toolchain
def test_worker_names_its_device_and_agrees_with_pytorch(
    on_device: WorkerSession, frame: dict[str, np.ndarray], expected: np.ndarray
) -> None:
    assert on_device.device.startswith(("vulkan: ", "cpu (no Vulkan device), fp16 options"))
    # fp16 arithmetic over a few layers: 10 bits and a sigmoid of slope 1/4
    assert np.abs(on_device.run(frame)["alpha"] - expected).max() < 5e-3


@pytest.mark.vulkan
@pytest.mark.toolchain
def test_vulkan_device_computes_in_fp16(
    on_device: WorkerSession, frame: dict[str, np.ndarray], files: tuple[Path, ...], expected: np.ndarray
) -> None:
    if not on_device.device.startswith("vulkan: "):
        pytest.skip("no Vulkan device; apt-get install mesa-vulkan-drivers libvulkan1 gives a software one")
    session = NCNN.open(files, "cpu")
    on_cpu = session.run(frame)["alpha"]
    session.close()
    on_gpu = on_device.run(frame)["alpha"]
    assert np.abs(on_gpu - on_cpu).max() > 0, "an equal result would come from the CPU"
    np.testing.assert_array_equal(on_gpu, on_device.run(frame)["alpha"])


@pytest.mark.toolchain
def test_worker_outlives_a_wrong_request(
    on_device: WorkerSession, frame: dict[str, np.ndarray], expected: np.ndarray
) -> None:
    with pytest.raises(UsageError, match="size is fixed"):
        on_device.run({"image": np.zeros((1, 3, 8, 8), np.float32)})
    assert on_device.run(frame)["alpha"].shape == expected.shape


@pytest.mark.toolchain
def test_worker_that_crashes_is_reported_with_its_signal(files: tuple[Path, ...], frame: dict[str, np.ndarray]) -> None:
    session = WorkerSession(files)
    session._process.send_signal(signal.SIGSEGV)
    with pytest.raises(ConversionError, match=r"net\.ncnn\.param .* signal SIGSEGV .* ncnn-cpu"):
        session.run(frame)
    session.close()


@pytest.mark.toolchain
def test_worker_that_hangs_is_stopped(files: tuple[Path, ...], frame: dict[str, np.ndarray]) -> None:
    session = WorkerSession(files)
    session._timeout_s = 0.2
    session._process.send_signal(signal.SIGSTOP)
    with pytest.raises(ConversionError, match=r"SIGKILL \(stopped after 0\.2 s"):
        session.run(frame)
    session.close()


@pytest.mark.toolchain
def test_machine_without_vulkan_runs_fp16_options_on_the_cpu(
    files: tuple[Path, ...],
    frame: dict[str, np.ndarray],
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the loader then finds no driver at all
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    session = NCNN.open(files, "gpu")
    assert session.device == "cpu (no Vulkan device), fp16 options"  # type: ignore[attr-defined]
    assert np.abs(session.run(frame)["alpha"] - expected).max() < 5e-3
    session.close()


@pytest.mark.toolchain
def test_fp16_is_off_on_the_cpu_and_on_for_the_device() -> None:
    import ncnn

    names = (
        "use_fp16_packed",
        "use_fp16_storage",
        "use_fp16_arithmetic",
        "use_bf16_packed",
        "use_bf16_storage",
    )
    states = {}
    for configure in (net.strict_fp32, net.fp16_on_cpu, net.fp16_on_vulkan):
        options = ncnn.Option()
        configure(options)
        assert options.num_threads == 1
        states[configure.__name__] = [options.use_vulkan_compute, *(getattr(options, name) for name in names)]
    assert states == {
        "strict_fp32": [False] * 6,
        "fp16_on_cpu": [False, True, True, True, False, False],
        "fp16_on_vulkan": [True, True, True, True, False, False],
    }


@pytest.mark.toolchain
def test_file_as_pnnx_wrote_it_comes_back_byte_for_byte(files: tuple[Path, ...]) -> None:
    text = files[0].read_text()
    assert parse(text).to_text() == text
    assert read(files[0]) == parse(text)
