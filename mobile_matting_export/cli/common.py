"""What every command shares: ``--json``, ``-q``, ``-v``, results on stdout and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.announce import Part
from mobile_matting_export.artifact import finite
from mobile_matting_export.cli.stop import raise_if_stopped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import TaskID


_MOST_LINES = 40


@dataclass(frozen=True)
class Output:
    """Where a command's words go. ``style`` is ``json`` or ``text``; ``level`` -1 quiet, 0, 1 verbose."""

    style: str
    level: int

    def result(self, value: Any, text: Callable[[], RenderableType]) -> None:
        """Print the result: ``value`` as one JSON object, or what ``text`` makes for people."""
        if self.style == "json":
            click.echo(json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False))
            return
        made = text()
        if isinstance(made, str):  # paths: neither wrapped nor read as markup
            click.echo(made)
            return
        from rich.console import Console

        # tables are not cut when the output goes to a file or a pipe
        width = None if sys.stdout.isatty() else 160
        Console(width=width, highlight=False).print(made)

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Callable[[str], None]]:
        """A function to call with a sentence as each of ``total`` steps begins; shown on stderr.

        Within a step it takes each ``Part``.

        It raises KeyboardInterrupt when the command was told to stop meanwhile.
        """
        with self._shown(total) as show:

            def announce(message: str) -> None:
                raise_if_stopped()
                show(message)

            yield announce

    def _shown(self, total: int) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        if self.level < 0:
            return contextlib.nullcontext(lambda message: None)
        if not sys.stderr.isatty():
            return contextlib.nullcontext(_lines(total))
        return _bar(total)

    def note(self, message: str) -> None:
        """A remark on stderr, dropped by ``-q``."""
        if self.level >= 0:
            click.echo(message, err=True)

    def detail(self, message: str) -> None:
        """A remark on stderr with ``-v`` only."""
        if self.level > 0:
            click.echo(message, err=True)


def _lines(total: int) -> Callable[[str], None]:
    """Write each step as a line; of many steps only so many that a log stays readable, and the last; parts all."""
    stride = -(-total // _MOST_LINES)
    count = 0

    def announce(message: str) -> None:
        nonlocal count
        if isinstance(message, Part):
            click.echo(message, err=True)
            return
        count += 1
        if count % stride == 1 % stride or count == total:
            click.echo(message, err=True)

    return announce


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.description}", markup=False),  # paths may hold brackets
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        step = progress.add_task("starting", total=total, count=f"0/{total}")
        parts: list[TaskID] = []
        begun = 0

        def announce(message: str) -> None:
            nonlocal begun
            while parts:
                progress.remove_task(parts.pop())
            if message.startswith("warning: "):
                progress.console.print(message, markup=False, highlight=False)  # the bar goes, this stays
            elif isinstance(message, Part):
                # without a total its bar moves to and fro
                count = "" if message.total is None else f"{message.done}/{message.total}"
                parts.append(progress.add_task(message, total=message.total, completed=message.done, count=count))
            else:
                progress.update(step, description=message, completed=begun, count=f"{begun}/{total}")
                begun += 1

        yield announce


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``, ``-q`` and ``-v``; the command gets them as one ``output`` argument."""
    options = (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else."),
        click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
        click.option("-v", "--verbose", is_flag=True, help="More detail; tracebacks of failures."),
    )

    def with_output(*args: Any, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        level = -1 if quiet else 1 if verbose else 0
        return command(*args, output=Output("json" if as_json else "text", level), **kwargs)

    with_output.__doc__ = command.__doc__
    with_output.__name__ = command.__name__
    with_output.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(options):
        with_output = option(with_output)
    return with_output


class SizeType(click.ParamType):
    """``HxW`` in pixels, or one number for a square."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        """Parse ``256x192`` or ``256`` to (height, width)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*(?:[xX×,]\s*(\d+))?\s*", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size: write height x width, for example 256x192", param, context)
        height, width = int(match[1]), int(match[2] or match[1])
        if not (1 <= height <= 8192 and 1 <= width <= 8192):
            self.fail(f"{value!r} is out of range: sides of 1 to 8192 pixels", param, context)
        return height, width


class NumbersType(click.ParamType):
    """One number for all channels, or three separated by commas."""

    name = "NUMBER[,NUMBER,NUMBER]"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[float, float, float]:
        """Parse ``127.5`` or ``104,112,121``; fractions such as ``1/255`` are allowed."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = [_number(part) for part in str(value).split(",")]
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is not a number or three: write 127.5 or 104,112,121 or 1/255", param, context)
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} has {len(numbers)} numbers: give one, or one per channel", param, context)
        three = numbers * 3 if len(numbers) == 1 else numbers
        return three[0], three[1], three[2]


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below) if below else float(above)
