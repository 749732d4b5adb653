"""Stop cleanly on Ctrl-C and SIGTERM, also where a library swallows the interruption.

Converters catch KeyboardInterrupt here and there and go on. The handler therefore also remembers the
signal, and every step of a command asks before it begins, the last one before anything is put in place.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise KeyboardInterrupt and are remembered."""
    _received.clear()
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = {number: signal.signal(number, _remember) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_stopped() -> None:
    """Raise KeyboardInterrupt when a signal came, however long ago."""
    if _received:
        raise KeyboardInterrupt


def stop_code() -> int:
    """Exit code of a stopped command: 128 plus the signal, as shells have it (130 for Ctrl-C)."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def _remember(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
