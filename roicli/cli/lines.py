"""Messages on stderr, and lines that fit where they are printed: a terminal has a width, a pipe has none."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

import click

from roicli.cli.flags import as_flags
from roicli.cli.plain import plain

# Most characters of a message.
_LONGEST = 4000
# Wider than any line.
ENDLESS = 1_000_000


# Words that begin a message, and their colours on a terminal.
_COLORS = {"error:": "red", "warning:": "yellow"}


def say(message: str) -> None:
    """Print a message on stderr, its parameters as flags."""
    text = fitted(as_flags(message))
    kind, space, rest = text.partition(" ")
    if kind in _COLORS and "NO_COLOR" not in os.environ:  # click leaves the colours out where nobody sees them
        text = click.style(kind, fg=_COLORS[kind], bold=True) + space + rest
    click.echo(text, err=True)


def fitted(message: str) -> str:
    """Return a message without control characters, and on a terminal broken between words.

    An id or a name may have any length. A very long message loses its middle.
    """
    text = plain(message if len(message) <= _LONGEST else f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}")
    return broken(text, line_width(sys.stderr)) if sys.stderr is not None and sys.stderr.isatty() else text


def line_width(stream: TextIO | None) -> int:
    """Return the width of a stream in characters; COLUMNS overrides it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    if stream is None or not stream.isatty():
        return ENDLESS
    return os.get_terminal_size(stream.fileno()).columns or 80


def broken(text: str, width: int) -> str:
    """Break lines between words; continued lines are indented by two.

    Examples
    --------
    >>> print(broken("note: a.json: boxes taken as xyxy", 20))
    note: a.json: boxes
      taken as xyxy
    """
    return "\n".join(_broken_line(line, width) for line in text.split("\n"))


def _broken_line(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line, max(width, len(indent) + 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def joined(pieces: Iterable[str], width: int) -> str:
    """Join pieces by spaces, or by line breaks where the next piece does not fit.

    Examples
    --------
    >>> print(joined(["x 1 to 2,", "y 3 to 4", "(1 wide, 1 high)"], 20))
    x 1 to 2, y 3 to 4
    (1 wide, 1 high)
    """
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + 1 + len(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return "\n".join(lines)
