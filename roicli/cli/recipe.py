"""`roicli recipe`: scripts that dump or stream the maps of other projects' models."""

from __future__ import annotations

from importlib.resources import files

import click

from roicli.cli.command import Command
from roicli.errors import UsageError
from roicli.words import listing

_FOLDER = files("roicli").joinpath("guide", "recipes")


def recipes() -> dict[str, str]:
    """Return the script of each recipe, by name."""
    found = {file.name.removesuffix(".py"): file for file in _FOLDER.iterdir() if file.name.endswith(".py")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


@click.command(cls=Command, epilog="")
@click.argument("name", required=False)
def recipe(name: str | None) -> None:
    """Print a script that dumps or streams maps of other projects' models, and the options that pool them.

    Without NAME, list the recipes. Set the names at the top of a script to your files and your model.

    \b
    Examples:
      roicli recipe
      roicli recipe timm > dump.py
    """
    known = recipes()
    if name is None:
        click.echo("roicli recipe NAME prints a script:\n")
        for one, text in known.items():
            click.echo(f"  {one:<12} {text.partition(chr(10))[0].removeprefix('# ')}")
    elif name in known:
        click.echo(known[name], nl=False)
    else:
        raise UsageError(f"{name!r} is not a recipe", f"Give one of {listing(list(known), len(known))}.")
