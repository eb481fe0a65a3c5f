"""`roicli help`: the guide, topic by topic."""

from __future__ import annotations

import json
import sys
from importlib.resources import files

import click

from roicli.cli.command import Command, option
from roicli.cli.lines import say
from roicli.cli.options import OUTPUT

# What each topic answers; one Markdown file in roicli/guide each.
TOPICS = {
    "formats": "Which files roicli reads and writes.",
    "geometry": "How a box becomes bins, samples and numbers.",
    "tokens": "How sequences of ViT tokens become maps.",
    "operators": "What a bin is: RoIAlign, RoIPool and others; one vector a box.",
    "masks": "How regions are pooled under their masks.",
    "conventions": "Which options give the numbers of other libraries.",
    "identify": "How to find what made pooled features, and to compare them.",
    "pyramids": "How boxes are pooled from several levels.",
    "outputs": "How to write what the loaders of other projects read.",
    "bad-input": "What becomes of bad boxes and damaged files; exit codes.",
    "resume": "How a job continues after Ctrl-C, a crash or a full disk.",
    "cluster": "How to split a job into parts and join them.",
    "stores": "How features are read from S3, the web, and other stores.",
    "speed": "What makes a job fast, and how much memory it takes.",
    "journeys": "Six whole jobs, from VQA features to a cluster.",
}
_WIDEST = 100


@click.command(cls=Command, epilog="")
@click.argument("topic", required=False)
@option(OUTPUT, "--json", "as_json", is_flag=True, help="Print all commands and their options as JSON.")
def help(topic: str | None, as_json: bool) -> None:
    """Explain TOPIC, or list the topics.

    \b
    Examples:
      roicli help
      roicli help resume
    """
    if as_json:
        root = click.get_current_context().find_root()
        click.echo(json.dumps(root.command.to_info_dict(root), default=str))
    elif topic is None:
        click.echo("roicli help TOPIC explains a topic:\n")
        for name, answers in TOPICS.items():
            click.echo(f"  {name:<12} {answers}")
        click.echo("\nroicli COMMAND --help lists the options of a command.")
    elif topic in TOPICS:
        _show(read_topic(topic))
    else:
        _show_command(topic)


def read_topic(topic: str) -> str:
    """Return the Markdown of a topic."""
    return files("roicli").joinpath("guide", f"{topic}.md").read_text("utf-8")


def _show(text: str) -> None:
    """Print Markdown: laid out on a terminal, as it is on a pipe."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, _WIDEST))


def _show_command(name: str) -> None:
    """Show the --help of a command, since people ask for that too."""
    context = click.get_current_context()
    group = context.find_root().command
    assert isinstance(group, click.Group)
    command = group.get_command(context, name)
    if command is not None:
        assert context.parent is not None
        click.echo(command.get_help(click.Context(command, context.parent, name)))
        return
    from difflib import get_close_matches

    near = get_close_matches(name, TOPICS, n=1)
    say(f"error: the guide has no topic {name!r}")
    say(f"hint: Did you mean roicli help {near[0]}?" if near else f"hint: Use one of {', '.join(TOPICS)}.")
    context.exit(2)
