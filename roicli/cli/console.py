"""Where tables are printed."""

from __future__ import annotations

from typing import Any, NoReturn

import rich.console
from rich.text import Text

from roicli.cli.plain import plain


class Console(rich.console.Console):
    """Obeys no control character of a name or an id, and leaves a closed pipe to who ends the command."""

    def render_str(self, text: str, **settings: Any) -> Text:
        """Write out control characters, but break lines."""
        return super().render_str("\n".join(map(plain, text.split("\n"))), **settings)

    def on_broken_pipe(self) -> NoReturn:
        """Raise what rich has caught."""
        raise BrokenPipeError
