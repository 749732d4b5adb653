"""Ctrl-C and SIGTERM stop a command cleanly, also when a library swallows the interruption."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from mobile_matting_export.artifact import written_atomically
from mobile_matting_export.cli.main import cli, run
from mobile_matting_export.cli.stop import raise_if_stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("library", ["passes it on", "swallows it"])
def test_signal_ends_the_command_and_leaves_nothing(
    number: signal.Signals,
    code: int,
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*arguments: object, **options: object) -> None:
        swallowing = contextlib.suppress(KeyboardInterrupt) if library == "swallows it" else contextlib.nullcontext()
        with written_atomically(tmp_path / "build" / "net" / "target") as scratch:
            (scratch / "half").write_bytes(b"half")
            with swallowing:
                os.kill(os.getpid(), number)
                signal.sigtimedwait([], 0.2)  # the handler runs in here at the latest
            raise_if_stopped()
            pytest.fail("the command went on")

    monkeypatch.setattr(cli.commands["doctor"], "callback", work)
    before = signal.getsignal(signal.SIGINT)

    assert run(["doctor"]) == code

    assert not list(tmp_path.iterdir())
    assert "stopped; nothing half-written is left" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
