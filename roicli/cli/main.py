"""The `roicli` command group, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from roicli import __version__, interrupts
from roicli.cli.command import EXIT_CODES
from roicli.cli.lines import say
from roicli.cli.streams import STDOUT, prepare_streams
from roicli.errors import RoicliError
from roicli.files import HDF5_SUFFIXES
from roicli.pooling.kernels.blas import fix_kernel

# The workers are processes of ours: threads that BLAS starts at its import only take memory. Set before NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
fix_kernel()

# Shown by --help, which loads none of them.
_COMMANDS = {
    "align": "Pool the boxes of a file from feature maps in files.",
    "check": "Check a job without pooling, and warn of likely mistakes.",
    "info": "Describe a file of feature maps, boxes or pooled features.",
    "trace": "Explain one number, sample by sample.",
    "project": "Take a value a bin back onto the maps.",
    "verify": "Compare pooled features with what align computes.",
    "identify": "Find which convention, or mistake, made pooled features.",
    "merge": "Join the parts of a job that was split by --shard.",
    "convert": "Write an output anew in another format, layout or dtype.",
    "missing": "Say which parts of a job are not done.",
    "sbatch": "Print a script that runs a job as an array of Slurm.",
    "recipe": "Print a script that dumps maps of torchvision, timm, ...",
    "help": "Explain a topic: formats, geometry, resume, cluster, ...",
    "completion": "Print a script for your shell that completes options.",
}
_HINTS = dict.fromkeys((errno.EACCES, errno.EPERM), "Check its permissions, and those of its folder.") | {
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENAMETOOLONG: "Give it a shorter name.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or give fewer --workers.",
}
_UNEXPECTED = 70  # EX_SOFTWARE: our error, not one of the input


class Roicli(click.Group):
    """Loads a command when it is called: no command pays for the imports of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"roicli.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for an unknown name, suggest the nearest."""
        if any(arg.lower().endswith(HDF5_SUFFIXES) for arg in args):
            from roicli import child

            child.start("roicli.sources.hdf5.inside")  # it loads HDF5 while we load the command
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"Did you mean roicli {near[0]}?" if near else ""
            _fail(f"roicli has no command {args[0]!r}", hint or f"Use one of {', '.join(_COMMANDS)}.", 2)
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the options of the group."""
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            _fail_of_usage(error)
        except KeyboardInterrupt as error:
            sys.exit(interrupts.exit_code(error))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line; every failure ends in one message and an exit code."""
        prepare_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            _fail_of_system(error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RoicliError as error:
            _fail(error.message, error.hint, error.exit_code, error)
        except click.UsageError as error:
            _fail_of_usage(error)
        except click.exceptions.Exit:
            raise
        except KeyboardInterrupt as error:
            kept = _kept(error) or _kept(error.__context__)  # if it came while another failure was cleaned up
            say(f"stopped: {kept}" if kept else "stopped")
            sys.exit(interrupts.exit_code(error))
        except BrokenPipeError:
            # The reader of our output has closed the pipe.
            _mute_stdout()
            sys.exit(128 + signal.SIGPIPE)
        except MemoryError as error:
            _fail("memory ran out", "Pool fewer bins or smaller maps at once.", RoicliError.exit_code, error)
        except OSError as error:
            _fail_of_system(error)
        except Exception as error:
            if ctx.params["debug"]:
                raise
            _fail(
                f"unexpected {type(error).__name__}: {error}",
                "Run roicli --debug with the same arguments to see the traceback.",
                _UNEXPECTED,
                error,
            )


@click.group(cls=Roicli, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="roicli %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def main(debug: bool) -> None:
    """Pool regions of feature maps in files: RoIAlign with torchvision's numbers, without a framework.

    \b
    Examples:
      roicli align feats.h5 boxes.json -o pooled.npy --size 7 --aligned
      roicli align 'feats/*.npy' boxes.csv -o pooled.h5 --spatial-scale 1/16
      roicli trace feats.h5 boxes.json --roi 3 --bin 0,0 --picture bin.png
    """


def _mute_stdout() -> None:
    """Discard what standard output did not take, or Python fails again at exit."""
    with suppress(OSError):  # out of descriptors
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(message: str, hint: str, exit_code: int, error: BaseException | None = None) -> NoReturn:
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")
    if error is not None and (kept := _kept(error)):
        say(f"note: {kept}")
    sys.exit(exit_code)


def _fail_of_usage(error: click.UsageError) -> NoReturn:
    """Say what is wrong with the command line in the form of all errors."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        raise error  # shows --help
    near = getattr(error, "possibilities", None)
    path = error.ctx.command_path if error.ctx is not None else "roicli"
    message = error.message if near else error.format_message()
    message = f"{message[:1].lower()}{message[1:].rstrip('.')}"
    hint = f"Did you mean {near[0]}?" if near else f"See {path} --help."
    if "unexpected extra argument" in message:  # the shell may have put many files for a pattern
        hint = f"Put a pattern in quotes, such as 'feats/*.npy'; see {path} --help."
    _fail(message, hint, error.exit_code)


def _fail_of_system(error: OSError) -> NoReturn:
    _mute_stdout()
    where = f"{error.filename}: " if error.filename else ""
    hint = _HINTS.get(error.errno or 0, "")
    if error.filename == STDOUT:
        closed = error.errno == errno.EBADF
        hint = "Do not close it." if closed else "Send it to a file on a disk that has room, or to a pipe."
    _fail(f"{where}{error.strerror or error}", hint, RoicliError.exit_code, error)


def _kept(error: BaseException | None) -> str:
    """Return the notes of a job that failed: what it has kept."""
    return "; ".join(getattr(error, "__notes__", ()))
