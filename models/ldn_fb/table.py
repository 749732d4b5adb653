"""The first table of Fast Deep Matting (arXiv 1707.08289) again: ``python -m models.ldn_fb.table --ldn FILE``.

Three methods at 128x128: the light dense network alone (LDN, weights of stage ``segment``), the same
behind a guided filter (LDN+GF), and with the feathering block trained (LDN+FB). Pictures and true mattes
are brought to 128x128 as the product brings pictures there (area averaging, 8 bits), scored at that size
on the photos of val.txt and on ``eval_natural_soft``. The filter's two numbers are chosen on val.txt only,
by the squared error. Times are CPU time of the process on one thread, from the network's input to the matte.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from mobile_matting_export import metrics
from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.images import list_pictures, load_picture, to_input
from mobile_matting_export.networks.ldn_fb import LDN_FB, LDNFB
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.one_thread import one_thread
from models.ldn_fb.guided_filter import guided_filter

ROOT = Path(__file__).resolve().parents[2]
Matte = npt.NDArray[np.float32]
Scores = dict[str, list[float]]  # by metric, one number a picture

RADII, EPSILONS = (1, 2, 4, 8, 16), (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
METRICS = {"mad": metrics.mad, "mse": metrics.mse, "grad_fdm": metrics.grad_fdm, "iou": metrics.iou}
RATIOS = ("mad", "mse", "grad_fdm")
TITLES = {"mad": "MAD x1e-3", "mse": "MSE x1e-3", "grad_fdm": "Grad x1e-3", "iou": "IoU"}
PAPER = {
    "LDN": {"cpu_ms": 27.0, "grad_fdm": 9.14e-3, "mse": 27.49e-3},
    "LDN+GF": {"cpu_ms": 236.0, "grad_fdm": 4.66e-3, "mse": 15.34e-3},
    "LDN+FB": {"cpu_ms": 38.0, "grad_fdm": 3.85e-3, "mse": 7.98e-3},
}
"""Of the paper's own head set, on a Xeon E5-2660."""

DRAWS, SEED = 2000, 0
WARM_UP = 5  # rounds that are not counted: the first ones allocate


@dataclass(frozen=True)
class Sample:
    """A picture at the table's size: the network's ``image`` 1 x 3 x H x W in -1..1, and in 0..1 RGB.

    ``guide`` H x W x 3 and ``truth`` H x W; all float32, ``guide`` and ``truth`` in 0..1.
    """

    image: torch.Tensor
    guide: npt.NDArray[np.float32]
    truth: Matte


Method = Callable[[Sample], Matte]


def make_sample(picture: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> Sample:
    """Bring a picture and its true matte, uint8 H x W x 3 each (the matte grey), to the table's size."""
    unit = ImageSpec()  # 0..1, RGB
    guide, truth = (to_input(pixels, unit, LDN_FB.size)[0].transpose(1, 2, 0) for pixels in (picture, alpha))
    image = torch.from_numpy(to_input(picture, LDN_FB.image, LDN_FB.size))
    return Sample(image, np.ascontiguousarray(guide), np.ascontiguousarray(truth[..., 0]))


def load_samples(folder: Path, names: Sequence[str]) -> list[Sample]:
    """The pictures ``folder/image/NAME.jpg`` with their mattes ``folder/alpha/NAME.png``."""
    return [
        make_sample(load_picture(folder / "image" / f"{name}.jpg"), load_picture(folder / "alpha" / f"{name}.png"))
        for name in names
    ]


def load_net(path: Path) -> LDNFB:
    """The network with the weights of ``path``, in eval mode."""
    net = LDNFB().eval()
    net.load_state_dict(load_file(path))
    return net


def dense(net: LDNFB, sample: Sample) -> Matte:
    """LDN: the person's score of the dense network."""
    with torch.no_grad():
        return net.segment(sample.image)[0, 1].numpy()


def filtered(net: LDNFB, radius: int, eps: float, sample: Sample) -> Matte:
    """LDN+GF: the same, guided by the picture."""
    return guided_filter(dense(net, sample), sample.guide, radius, eps).clip(0, 1)


def feathered(net: LDNFB, sample: Sample) -> Matte:
    """LDN+FB: the feathered matte."""
    with torch.no_grad():
        return net(sample.image)[1][0, 0].clamp(0, 1).numpy()


def choose_filter(net: LDNFB, samples: Sequence[Sample]) -> tuple[int, float, dict[str, float]]:
    """Radius and eps of the grid with the least mean squared error, and the whole grid's errors."""
    mattes = [dense(net, sample) for sample in samples]  # once, not for each cell of the grid
    errors = {}
    for radius, eps in itertools.product(RADII, EPSILONS):
        filters = (guided_filter(m, s.guide, radius, eps).clip(0, 1) for m, s in zip(mattes, samples, strict=True))
        errors[radius, eps] = float(np.mean([metrics.mse(f, s.truth) for f, s in zip(filters, samples, strict=True)]))
    radius, eps = min(errors, key=errors.__getitem__)
    return radius, eps, {f"radius {r}, eps {e:g}": error for (r, e), error in errors.items()}


def score(method: Method, samples: Sequence[Sample]) -> Scores:
    """Every metric of every picture."""
    mattes = [method(sample) for sample in samples]
    return {
        name: [float(metric(matte, sample.truth)) for matte, sample in zip(mattes, samples, strict=True)]
        for name, metric in METRICS.items()
    }


def ratio(
    numbers: Sequence[float], others: Sequence[float], middle: Callable[..., Any] = np.mean
) -> tuple[float, tuple[float, float]]:
    """``middle(numbers) / middle(others)`` and its 95 % bootstrap interval.

    The two belong together pair by pair (one picture, one round), so pairs are drawn, ``DRAWS`` times.
    """
    a, b = np.asarray(numbers, np.float64), np.asarray(others, np.float64)
    drawn = np.random.default_rng(SEED).integers(0, len(a), (DRAWS, len(a)))
    low, high = np.percentile(middle(a[drawn], axis=1) / middle(b[drawn], axis=1), (2.5, 97.5))
    return float(middle(a) / middle(b)), (float(low), float(high))


def time_methods(methods: Mapping[str, Method], samples: Sequence[Sample], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds by method, one number a round; each round runs every method once, on one picture.

    Interleaved, so that a machine that gets slower or busier meets all methods alike.
    """
    milliseconds: dict[str, list[float]] = {name: [] for name in methods}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with one_thread():
            for i in range(-WARM_UP, rounds):
                for name, method in methods.items():
                    before = time.process_time()
                    method(samples[i % len(samples)])
                    spent = time.process_time() - before
                    if i >= 0:
                        milliseconds[name].append(1e3 * spent)
    finally:
        cv2.setNumThreads(threads)
    return milliseconds


def summarize_scores(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Means of one set by method, and LDN / LDN+FB of each metric that is an error."""
    plain, feathering = scores["LDN"], scores["LDN+FB"]
    ratios = {name: ratio(plain[name], feathering[name]) for name in RATIOS}
    return {
        "images": len(plain["mse"]),
        "mean": {method: {name: float(np.mean(v)) for name, v in own.items()} for method, own in scores.items()},
        "ldn_over_ldn_fb": {name: {"ratio": value, "ci95": ci} for name, (value, ci) in ratios.items()},
    }


def summarize_times(milliseconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Median by method, and its ratio to LDN's."""
    result = {}
    for method, own in milliseconds.items():
        value, ci = ratio(own, milliseconds["LDN"], np.median)
        result[method] = {"cpu_ms": float(np.median(own)), "to_ldn": value, "ci95": ci, "rounds": len(own)}
    return result


def compute(ldn: LDNFB, fb: LDNFB, sets: Mapping[str, Sequence[Sample]], choose_on: str, rounds: int) -> dict[str, Any]:
    """All figures of the table; the guided filter is chosen, and the time taken, on the set ``choose_on``."""
    radius, eps, grid = choose_filter(ldn, sets[choose_on])
    methods: dict[str, Method] = {
        "LDN": lambda sample: dense(ldn, sample),
        "LDN+GF": lambda sample: filtered(ldn, radius, eps, sample),
        "LDN+FB": lambda sample: feathered(fb, sample),
    }
    return {
        "size": list(LDN_FB.size),
        "guided_filter": {"radius": radius, "eps": eps, "chosen_on": choose_on, "mse": grid},
        "sets": {
            name: summarize_scores({method: score(run, own) for method, run in methods.items()})
            for name, own in sets.items()
        },
        "times": summarize_times(time_methods(methods, sets[choose_on], rounds)),
    }


def measure_table(data: Path, ldn: Path, fb: Path, rounds: int) -> dict[str, Any]:
    """All figures of the table from weight files, on val.txt of ``data/train`` and on ``eval_natural_soft``."""
    train, soft = data / "train", data / "dev" / "eval_natural_soft"
    sets = {
        "val": load_samples(train, (train / "val.txt").read_text().split()),
        soft.name: load_samples(soft, [path.stem for path in list_pictures(soft / "image")]),
    }
    return compute(load_net(ldn), load_net(fb), sets, choose_on="val", rounds=rounds)


def render(figures: Mapping[str, Any], paper: Mapping[str, Mapping[str, float]] = PAPER) -> str:
    """The figures as markdown, the paper's beside ours."""
    sets, times, chosen = figures["sets"], figures["times"], figures["guided_filter"]
    columns = ["method", "CPU ms, paper", "CPU ms, ours", "to LDN, paper", "to LDN, ours (95 %)"]
    for name in ("grad_fdm", "mse"):
        columns += [f"{TITLES[name]}, paper", *(f"{TITLES[name]}, {one}" for one in sets)]
    columns += [f"{TITLES[name]}, {one}" for name in ("mad", "iou") for one in sets]
    rows = []
    for method, theirs in paper.items():
        ours = times[method]
        row = [method, f"{theirs['cpu_ms']:.0f}", f"{ours['cpu_ms']:.2f}"]
        row += [f"{theirs['cpu_ms'] / paper['LDN']['cpu_ms']:.2f}", _with_interval(ours["to_ldn"], ours["ci95"])]
        means = [own["mean"][method] for own in sets.values()]
        for name in ("grad_fdm", "mse"):
            row += [f"{1e3 * theirs[name]:.2f}", *(f"{1e3 * mean[name]:.2f}" for mean in means)]
        row += [f"{1e3 * mean['mad']:.2f}" for mean in means] + [f"{mean['iou']:.3f}" for mean in means]
        rows.append(row)
    ratios = []
    for name in ("grad_fdm", "mse", "mad"):
        published = f"{paper['LDN'][name] / paper['LDN+FB'][name]:.2f}" if name in paper["LDN"] else "-"
        own = [one["ldn_over_ldn_fb"][name] for one in sets.values()]
        row = [TITLES[name].partition(" ")[0], published, *(_with_interval(one["ratio"], one["ci95"]) for one in own)]
        ratios.append(row)
    counted = ", ".join(f"{name} {one['images']}" for name, one in sets.items())
    return "\n".join(
        [
            *_table(columns, rows),
            "",
            *_table(["LDN / LDN+FB", "paper", *(f"{one} (95 %)" for one in sets)], ratios),
            "",
            f"Guided filter: radius {chosen['radius']}, eps {chosen['eps']:g}, the least MSE of a grid of "
            f"{len(chosen['mse'])} on {chosen['chosen_on']}. Pictures: {counted}. CPU ms: median of "
            f"{times['LDN']['rounds']} rounds, one thread, at {figures['size'][0]}x{figures['size'][1]}.",
            "",
            "The paper's figures are of its own head set and a Xeon E5-2660: pictures, truths and machine are others "
            "than ours, so only the ratios can be compared. Intervals: bootstrap over pictures, or rounds, in pairs.",
        ]
    )


def _with_interval(value: float, ci: Sequence[float]) -> str:
    return f"{value:.2f} ({ci[0]:.2f}-{ci[1]:.2f})"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(columns), ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table; ``--json`` also writes its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ldn", type=Path, required=True, help="weights of stage segment")
    parser.add_argument("--fb", type=Path, default=bundled_weights("ldn_fb"), help="of LDN+FB (default: the bundled)")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--rounds", type=int, default=400, help="of timing")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds must be 1 or more: a median needs a number")
    figures = measure_table(given.data, given.ldn, given.fb, given.rounds)
    print(render(figures))
    if given.json:
        figures["weights"] = {"ldn": _identity(given.ldn), "fb": _identity(given.fb)}
        figures["versions"] = {
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "python": platform.python_version(),
        }
        figures["machine"], figures["paper"] = platform.platform(), PAPER
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def _identity(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


if __name__ == "__main__":
    main()
