"""Times a model on this computer: ``python -m android_bench.host_worker REQUEST``, prints one JSON object.

A process of its own, so that a runtime that crashes, or leaves threads behind, is not ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Invoke = Callable[[], Sequence[np.ndarray] | None]
"""Runs a frame; returns all outputs in the file's order."""
_SEED = 5
# the highest priority that we take where we may
_NICENESS = -10


def main(arguments: Sequence[str]) -> None:
    """Measure what the one argument asks for."""
    request = json.loads(arguments[0])
    _pin(request["mask"])
    begun = time.perf_counter()
    open_model = {"tflite": _open_tflite, "ncnn": _open_ncnn}[request["runtime"]]
    invoke = open_model(request, _read_inputs(request))
    init_ms = (time.perf_counter() - begun) * 1e3
    result = {"init_ms": init_ms, **measure_frames(invoke, request)}
    if request["output_file"]:
        with Path(request["output_file"]).open("wb") as file:
            for output in invoke() or ():
                # as the phone's runners write it: one after the other, and 8 bits stay as the file stores them
                dtype = output.dtype if output.dtype.kind in "iu" else np.float32
                file.write(np.ascontiguousarray(output, dtype).tobytes())
    print(json.dumps(result))


def measure_frames(invoke: Invoke, request: Mapping[str, Any]) -> dict[str, Any]:
    """Warm up, then time frames one by one: ``runs`` at least, and ``seconds`` at least.

    ``cpu_share`` is the processor time of the timed part over that of all its threads' cores; with a pause between
    frames (``frequency``) it is not told.
    """
    warmup = _time_frames(invoke, 1, request["warmup_s"], 0)
    processor, wall = time.process_time(), time.perf_counter()
    frames = np.asarray(_time_frames(invoke, request["runs"], request["seconds"], request["frequency"]))
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    p5, median, p90, p95 = np.percentile(frames, (5, 50, 90, 95))
    return {
        "runs": len(frames),
        "warmup_runs": len(warmup),
        "first_ms": warmup[0],
        "mean_ms": float(frames.mean()),
        "std_ms": float(frames.std()),
        "min_ms": float(frames.min()),
        "max_ms": float(frames.max()),
        "p5_ms": float(p5),
        "median_ms": float(median),
        "p90_ms": float(p90),
        "p95_ms": float(p95),
        # with several threads idle ones wait without processor time: only one thread's share is plain
        "cpu_share": processor / wall if request["threads"] == 1 and not request["frequency"] else None,
    }


def _time_frames(invoke: Invoke, runs: int, seconds: float, frequency: float) -> list[float]:
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < runs or time.perf_counter() - start < seconds:
        if frequency:
            # the next tick of the camera; a frame that took too long makes the following one late, none is skipped
            time.sleep(max(0.0, start + len(times) / frequency - time.perf_counter()))
        begun = time.perf_counter()
        invoke()
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def _pin(mask: str) -> None:
    """Bind this process to the mask's cores and raise its priority, as far as the system lets us."""
    if mask and hasattr(os, "sched_setaffinity"):
        bits = int(mask, 16)
        os.sched_setaffinity(0, {core for core in range(bits.bit_length()) if bits >> core & 1})
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)


def _read_inputs(request: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs by name: from raw files, else noise in [0, 1), for 8 bits over all but the highest of their numbers."""
    rng = np.random.default_rng(_SEED)
    inputs = {}
    files = request["input_files"] or [None] * len(request["inputs"])
    for tensor, file in zip(request["inputs"], files, strict=True):
        shape = tuple(tensor["shape"])
        dtype = np.dtype(tensor["dtype"])
        noise = rng.random(shape) if dtype.kind == "f" else rng.random(shape) * 255 + np.iinfo(dtype).min
        inputs[tensor["name"]] = (
            noise.astype(dtype) if file is None else np.fromfile(file, dtype.newbyteorder("<")).reshape(shape)
        )
    return inputs


def _open_tflite(request: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> Invoke:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=request["files"][0], num_threads=request["threads"])
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    by_name = {entry["name"]: entry for entry in details}
    for number, (name, values) in enumerate(inputs.items()):
        entry = by_name.get(name, details[number])
        if tuple(entry["shape"]) != values.shape:
            sys.exit(f"input {name} of the file is {tuple(entry['shape'])}, {values.shape} was asked")
        interpreter.set_tensor(entry["index"], values)
    outputs = [entry["index"] for entry in interpreter.get_output_details()]

    def invoke() -> list[np.ndarray]:
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return invoke


def _open_ncnn(request: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> Invoke:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = request["threads"]
    net.opt.use_vulkan_compute = False
    half = request["precision"] == "fp16"
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    # as the file is verified: bfloat16 is coarser than either precision
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    param, weights = (next(file for file in request["files"] if Path(file).suffix == end) for end in (".param", ".bin"))
    if net.load_param(param) != 0 or net.load_model(weights) != 0:
        sys.exit(f"ncnn cannot load {param}")
    # Mat borrows the array's memory: the clone owns its own
    mats = {name: ncnn.Mat(np.ascontiguousarray(values[0])).clone() for name, values in inputs.items()}

    def invoke() -> list[np.ndarray]:
        results = []
        with net.create_extractor() as extractor:
            for name, mat in mats.items():
                if extractor.input(name, mat) != 0:
                    sys.exit(f"ncnn knows no input {name}")
            # ncnn computes what is asked for and nothing else: without the states a frame would look faster
            for name in request["outputs"]:
                code, result = extractor.extract(name)
                if code != 0:
                    sys.exit(f"ncnn knows no output {name}")
                results.append(np.array(result))
        return results

    return invoke


if __name__ == "__main__":
    main(sys.argv[1:])
