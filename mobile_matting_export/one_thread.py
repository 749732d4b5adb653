"""Run PyTorch on one thread: the same sums on every machine, and no waiting for a busy second core."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, or the decorated function, PyTorch computes on one thread.

    The number of threads decides the order of summation, so the last digits of every error in a
    manifest would depend on the machine. And threads of one operator wait for the slowest: beside
    another busy process converting MMNet took 69 s with two threads and 18 s with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
