"""Turn the parameters that messages name into the flags of the command line.

Below the command line a message names a parameter in backquotes, since a Python caller may read it:
`spatial_scale=1/16`, `aligned=True`, `overwrite`. At a terminal these are --spatial-scale 1/16, --aligned, --overwrite.
"""

from __future__ import annotations

import re

import click

_PARAMETER = re.compile(r"`([a-z][a-z_]*)(?:=([^`]*))?`")
# Parameters of the functions on arrays that have another name on the command line.
_SAME = {"output_size": "size"}
# Messages about a job of another command name the options of this one.
_MAIN = "align"


def as_flags(text: str) -> str:
    """Return a message with its parameters as flags; what is not a parameter of a command stays as it is."""
    return _PARAMETER.sub(_as_flag, text) if "`" in text else text


def _as_flag(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    for command in _commands():
        for parameter in command.params:
            if parameter.name == _SAME.get(name, name):
                return _given(parameter, value)
    return found[0]


def _commands() -> list[click.Command]:
    """Return the command that runs, then the main one."""
    context = click.get_current_context(silent=True)
    if context is None:
        return []
    running, group = context.command, context.find_root().command
    # A command that failed has left its context.
    name = context.invoked_subcommand if running is group else running.name
    assert isinstance(group, click.Group)
    found = [group.get_command(context, known) for known in (name, _MAIN) if known is not None]
    return [command for command in found if command is not None]


def _given(parameter: click.Parameter, value: str | None) -> str:
    """Return how a parameter is given a value, if there is one."""
    if not isinstance(parameter, click.Option):
        return parameter.human_readable_name
    flag, off = parameter.opts[-1], parameter.secondary_opts
    if value in (None, "True"):
        return flag
    if value == "False":
        return off[0] if off else f"no {flag}"
    value = value.strip("'\"")
    if isinstance(parameter.type, click.Choice) and value not in parameter.type.choices:
        value = value.replace("_", "-")
    return f"{flag} {value}"
