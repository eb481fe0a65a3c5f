"""`roicli completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from roicli.cli.command import Command

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script that completes commands and options in a shell.

    \b
    Examples:
      roicli completion bash > ~/.local/share/bash-completion/completions/roicli
      roicli completion zsh > ~/.zfunc/_roicli
      roicli completion fish > ~/.config/fish/completions/roicli.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(click.get_current_context().find_root().command, {}, "roicli", "_ROICLI_COMPLETE").source())
