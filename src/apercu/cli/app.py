"""The program: its table of commands, and what becomes of their errors."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from typer.main import get_command

from apercu import registry
from apercu.cli.augment import augment
from apercu.cli.codes import encode, index, search
from apercu.cli.compress import compress, decompress
from apercu.cli.fit import fit
from apercu.cli.models import info, report
from apercu.cli.more import check, demo, presets
from apercu.cli.output import Stopped, show
from apercu.cli.study import curve, tune
from apercu.cli.tasks import evaluate, task_command, task_help
from apercu.errors import ApercuError

OURS, USERS, STOPPED = 1, 2, 130
ADVICE = {
    errno.EEXIST: "there is a file of this name, so it cannot become a folder: name another",
    errno.ENOTDIR: "a file lies where a folder should be: name another folder",
    errno.EISDIR: "a folder lies where a file should be: name another file",
    errno.EACCES: "ask for the right to use it, or name another place",
    errno.EPERM: "ask for the right to use it, or name another place",
    errno.EROFS: "nothing can be written there: name another place",
    errno.ENOSPC: "make room there, or name another disk",
    errno.ENAMETOOLONG: "give a shorter name",
}
"""What to do about errors of the system that users meet; of the others, to look at the name."""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"apercu {version('apercu')}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose; anywhere on the line.")] = False,
) -> None:
    """Learn one compact code for your own images, and do every job from it.

    Start with: apercu demo, or apercu fit PHOTOS -o MODEL, then apercu report MODEL
    """


def build_app() -> typer.Typer:
    """All commands; every file in `tasks/` is one."""
    # Help is plain text: it is there in half the time, and a file name with brackets stays what it is.
    app = typer.Typer(
        rich_markup_mode=None, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.callback()(root)
    commands: tuple[Callable[..., None], ...] = (
        fit,
        info,
        report,
        check,
        augment,
        curve,
        tune,
        compress,
        decompress,
        encode,
        search,
        index,
        evaluate,
        presets,
        demo,
    )
    for command in commands:
        summary = (command.__doc__ or "").partition("\n")[0]
        app.command(short_help=summary)(command)
    own = {command.__name__ for command in commands}
    for name in (name for name in registry.names("tasks") if name not in own):
        text = task_help(name)
        app.command(name, help=text, short_help=text.partition("\n")[0])(task_command(name))
    return app


app = build_app()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0; 2 for what users can mend; 1 for what we must; 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, as_json = "--debug" in given, "--json" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        with _quiet_libraries():
            status = get_command(app).main(given or ["--help"], prog_name="apercu", standalone_mode=False)
        if status == STOPPED:
            raise KeyboardInterrupt
        return status or 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, status = _judge(error)
    except KeyboardInterrupt:
        message, status = "stopped", STOPPED
    show({"error": message}, "", True) if as_json else typer.echo(f"apercu: {message}", err=True)
    return status


def _judge(error: Exception) -> tuple[str, int]:
    """What to say of an error, in one sentence, and the exit status."""
    if isinstance(error, Stopped):
        return str(error), STOPPED
    if isinstance(error, ApercuError):
        return str(error), USERS
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "apercu"
        return f"{error.format_message()} (see: {command} --help)", USERS
    if isinstance(error, OSError) and error.errno is not None:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return (
            f"{what}; {ADVICE.get(error.errno, 'check the name, and that this place can be read and written')}",
            USERS,
        )
    if any(words in str(error) for words in ("out of memory", "allocate memory")) or isinstance(error, MemoryError):
        return "there is not enough memory for this; use fewer or smaller images, or a smaller --batch", USERS
    reason = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
    return f"this is a fault of Apercu, not yours ({reason}); say it again with --debug to see where it arose", OURS


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the remarks of libraries off the terminal: what matters to the user we say ourselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
