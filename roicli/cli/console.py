"""Where tables are printed."""

from __future__ import annotations

from typing import NoReturn

import rich.console


class Console(rich.console.Console):
    """Leaves a closed pipe to who ends the command."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise what rich has caught."""
        raise BrokenPipeError
