"""Commands whose --help lists options under headings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

EXIT_CODES = (
    "Exit codes: 0 done, 1 a comparison failed or check --strict has warned, 2 wrong usage, 3 bad data or a failed "
    "job, 70 an error in roicli itself, 130 stopped by Ctrl-C, 141 the reader of a pipe has gone "
    "(roicli help bad-input)."
)
# Width of the names of options in --help; longer names have a line of their own.
_COLUMN = 26


class Option(click.Option):
    """An option under a heading of --help.

    `group`: the heading.
    """

    def __init__(self, *args: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


class Command(click.Command):
    """A command that lists its options by heading, in the order in which headings first come."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **({"epilog": EXIT_CODES} | settings))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a heading; --help goes with the last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                heading = getattr(parameter, "group", heading)
                sections.setdefault(heading, []).append((record[0].ljust(_COLUMN), record[1]))
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=_COLUMN)


def print_json(report: Any) -> None:
    """Print a report as JSON on standard output."""
    import json

    click.echo(json.dumps(report.as_dict()))


def option(group: str, *names: str, choices: Sequence[str] = (), **settings: Any) -> Callable[[Decorated], Decorated]:
    """Declare an option under a heading of --help, which shows its default; keep the decorator to use it again."""
    if choices:
        settings["type"] = click.Choice(choices)
    return click.option(*names, cls=Option, group=group, show_default="default" in settings, **settings)


def stacked(*options: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Make one decorator of several options, shown by --help in this order."""

    def decorate(command: Decorated) -> Decorated:
        return reduce(lambda decorated, one: one(decorated), reversed(options), command)

    return decorate
