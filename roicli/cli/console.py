"""Where tables are printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import rich.console
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from roicli.cli.lines import ENDLESS, line_width
from roicli.cli.plain import plain


class Console(rich.console.Console):
    """Shows text as it is, whole lines where no terminal breaks them, and no spaces at their ends.

    It obeys no control character of a name or an id, and leaves a closed pipe to who ends the command.
    """

    def __init__(self) -> None:
        # A height too, without which rich takes a dumb terminal for one of 80 columns.
        super().__init__(width=line_width(sys.stdout), height=25, highlight=False, markup=False, emoji=False)

    @property
    def endless(self) -> bool:
        """Whether lines are broken by nothing."""
        return self.width >= ENDLESS

    def show(self, *parts: RenderableType, least: int = 0) -> None:
        """Print parts below each other; a table that needs `least` characters is left to the terminal to break."""
        for part in parts:
            self.print(_Trimmed(part, least), crop=False)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Write out control characters, but break lines."""
        return super().render_str("\n".join(map(plain, text.split("\n"))), **settings)

    def on_broken_pipe(self) -> NoReturn:
        """Raise what rich has caught."""
        raise BrokenPipeError


@dataclass(frozen=True)
class _Trimmed:
    """A part without the spaces that fill up its lines."""

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
