"""The ``mmexport`` command. Its modules import nothing heavy, so that help answers at once."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence

import click

from android_bench.errors import BenchError
from mobile_matting_export import __version__
from mobile_matting_export.cli.bench import bench
from mobile_matting_export.cli.compare import compare
from mobile_matting_export.cli.config import read_config
from mobile_matting_export.cli.convert import convert
from mobile_matting_export.cli.doctor import doctor
from mobile_matting_export.cli.evaluate import evaluate
from mobile_matting_export.cli.fit import fit
from mobile_matting_export.cli.gate import gate
from mobile_matting_export.cli.history import history
from mobile_matting_export.cli.inspect import inspect
from mobile_matting_export.cli.matte import matte
from mobile_matting_export.cli.networks import networks
from mobile_matting_export.cli.runners import runners
from mobile_matting_export.cli.stop import stop_code, stoppable
from mobile_matting_export.cli.targets import targets
from mobile_matting_export.cli.trade_off import trade_off
from mobile_matting_export.cli.verify import verify
from mobile_matting_export.errors import MmexportError, UsageError

COMMANDS = (
    networks,
    targets,
    convert,
    fit,
    verify,
    evaluate,
    inspect,
    matte,
    bench,
    gate,
    compare,
    trade_off,
    history,
    runners,
    doctor,
)

_EXIT_CODES = """
\b
Exit codes:
  0 done                      4 quality gate missed
  1 unexpected (a bug)        5 performance gate missed
  2 usage or unreadable input 6 device unavailable or lost
  3 conversion failed         7 inconclusive
                            130 stopped with Ctrl-C
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="mmexport")
@click.pass_context
def cli(context: click.Context) -> None:
    """Put a trained portrait-matting network on a phone: fast, small, and provably the same matte.

    \b
    Try:  mmexport convert --target tflite-gpu
          mmexport matte build/mmnet/tflite-gpu-fp16 selfie.jpg
    """
    if context.invoked_subcommand == convert.name:
        try:
            context.default_map = read_config()
        except UsageError as error:  # raised by the command itself, so that its help still answers
            context.obj = error


for _command in COMMANDS:
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of the documented codes."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; never a traceback without ``-v``."""
    try:
        names = {"prog_name": "mmexport", "auto_envvar_prefix": "MMEXPORT"}
        with stoppable():
            return cli.main(list(arguments), standalone_mode=False, **names) or 0
    except click.ClickException as error:
        error.show()
        return _report_as_json(arguments, error.format_message(), error.exit_code)
    except click.exceptions.Abort:
        message = "stopped; nothing half-written is left"
        click.echo(f"mmexport: {message}", err=True)
        return _report_as_json(arguments, message, stop_code())
    except (MmexportError, BenchError) as error:
        if _is_verbose(arguments):
            traceback.print_exc()
            click.echo(getattr(error, "evidence", ""), err=True)
        click.echo(f"mmexport: {error}", err=True)
        return _report_as_json(arguments, str(error), error.exit_code)
    except Exception as error:
        if _is_verbose(arguments):
            traceback.print_exc()
        message = (
            f"unexpected {type(error).__name__}: {error}. This is a defect of mmexport: please report it "
            "with the output of the same command with -v"
        )
        click.echo(f"mmexport: {message}", err=True)
        return _report_as_json(arguments, message, 1)


def _is_verbose(arguments: Sequence[str]) -> bool:
    return any(word in ("-v", "--verbose") for word in arguments)


def _report_as_json(arguments: Sequence[str], message: str, exit_code: int) -> int:
    """With ``--json`` a failure is one JSON object on stdout, too."""
    if "--json" in arguments:
        click.echo(json.dumps({"error": message, "exit_code": exit_code}))
    return exit_code


if __name__ == "__main__":
    main()
