"""Where tables are printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import rich.console
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from roicli.cli.lines import ENDLESS, line_width
from roicli.cli.plain import plain


class Console(rich.console.Console):
    """Prints text as it is, without trailing spaces and control characters, and breaks lines on terminals only."""

    def __init__(self) -> None:
        # Without a height rich takes a dumb terminal for one of 80 columns.
        super().__init__(width=line_width(sys.stdout), height=25, highlight=False, markup=False, emoji=False)

    @property
    def endless(self) -> bool:
        """Whether lines have no limit."""
        return self.width >= ENDLESS

    def show(self, *parts: RenderableType, least: int = 0) -> None:
        """Print parts below each other; the terminal breaks the lines of a table that needs `least` characters."""
        for part in parts:
            self.print(_Trimmed(part, least), crop=False)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Escape control characters, but not line feeds."""
        return super().render_str("\n".join(map(plain, text.split("\n"))), **settings)

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error again that rich caught."""
        raise BrokenPipeError


def facts() -> Table:
    """Return a table of names, and what is said of each."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


@dataclass(frozen=True)
class _Trimmed:
    """A part without the spaces at the ends of its lines."""

    part: RenderableType
    least: int

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=max(options.max_width, self.least))
        for line in Segment.split_lines(console.render(self.part, wide)):
            while line and not line[-1].text.strip():
                line.pop()
            yield from line[:-1]
            yield from (Segment(last.text.rstrip(), last.style) for last in line[-1:])
            yield Segment.line()
