"""`roicli sbatch`."""

from __future__ import annotations

import glob
from pathlib import Path
from shlex import quote
from typing import Any

import click

from roicli.cli.align import align
from roicli.cli.command import Command, option
from roicli.cli.options import RUN
from roicli.cli.values import whole
from roicli.stores.path import is_secret, path_of

# A task goes on where it was stopped; `auto/N` holds for an array of some of the tasks too.
_SCRIPT = """\
#!/bin/bash
# Pools in {nodes} tasks, each on a node of its own, then joins their parts. Submit it: bash FILE
# After a failure: bash FILE "$(roicli missing --array {pattern})"
set -euo pipefail

array=$(sbatch --parsable --job-name=roicli --array="${{1:-1-{nodes}}}" --nodes=1 --exclusive{time} <<'{end}'
#!/bin/bash
roicli align {task}
{end}
)
sbatch --job-name=roicli-merge --dependency="afterok:${{array%%;*}}" --kill-on-invalid-dep=yes{time} <<'{end}'
#!/bin/bash
roicli merge {merge}
{end}
"""
_PLAIN = "Give its address without password and query, and put a variable in its place in the script"
# What the script says itself.
_OURS = ("output", "index", "resume")


@click.command(cls=Command, context_settings={"allow_interspersed_args": False})
@option(
    RUN, "--nodes", type=whole(1, 100_000), metavar="N", required=True, help="Cut the job into N tasks, one a node."
)
@option(RUN, "--time", metavar="TIME", help="Limit of each task, as Slurm takes it, such as 2:00:00.")
@click.argument("command", metavar="align ARGUMENT...", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def sbatch(context: click.Context, nodes: int, time: str | None, command: tuple[str, ...]) -> None:
    """Print a script that runs a job as an array of Slurm, and joins its parts.

    Write roicli align and its arguments behind the options, as they would be without Slurm. Its options are checked;
    files are not read. Other options of sbatch go into the script, or into variables such as SBATCH_PARTITION.

    \b
    Examples:
      roicli sbatch --nodes 10 align feats.h5 boxes.json -o pooled.h5 --size 7 > job.sh
      roicli sbatch --nodes 10 --time 2:00:00 align feats.h5 boxes.json -o pooled.h5 | bash
    """
    name, *arguments = command
    if name != "align":
        raise click.UsageError(f"expected align and its arguments, got {name!r}", context)
    with align.make_context("align", [*arguments], parent=context.parent) as given:
        job = given.params
    if str(job["boxes"]) == "-":
        raise click.UsageError("boxes on standard input are gone when the tasks start", given)
    for option_name, usual in ("shard", None), ("executor", "local"):
        if job[option_name] != usual:
            raise click.UsageError(f"--{option_name} does not go with sbatch, which shares out the work", given)
    if not str(job["output"]).isprintable():  # it stands in a comment
        raise click.UsageError("the name of the output has characters that cannot be printed", given)
    words = _words(arguments, given)
    words += [f"-o {_part(job['output'], nodes)}", f"--shard auto/{nodes}", "--resume"]
    if job["index"] is not None:
        words.append(f"--index {_part(job['index'], nodes)}")
    stem, ending = _around(job["output"], nodes)
    pattern = _file(f"{glob.escape(stem)}*{glob.escape(ending)}")
    merge = [f"{_file(str(job['output']))} {pattern}", *["--overwrite"] * job["overwrite"]]
    task, end = _lines(words), "END"
    while end in f"{task}{merge}":
        end += "_"
    limit = "" if time is None else f" --time={quote(time)}"
    click.echo(
        _SCRIPT.format(nodes=nodes, pattern=pattern, time=limit, end=end, task=task, merge=_lines(merge)), nl=False
    )


def _words(arguments: list[str], context: click.Context) -> list[str]:
    """Return the arguments of align as the shell takes them, but for what the script says itself."""
    raw, _, order = align.make_parser(context).parse_args([*arguments])
    files, options = [], []
    for parameter in dict.fromkeys(order):
        value: Any = raw[parameter.name]
        if parameter.name in _OURS:
            continue
        if isinstance(value, str) and is_secret(value):
            raise click.UsageError(f"the script would show what is secret of {path_of(value)}. {_PLAIN}", context)
        if isinstance(parameter, click.Argument):
            files.append(_file(value))
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            options.append((parameter.opts if value else parameter.secondary_opts)[-1])
        else:
            options.append(f"{parameter.opts[-1]} {quote(value)}")
    return [" ".join(files), *options]


def _file(name: str) -> str:
    """Quote a name that stands where options may, too."""
    return quote(f"./{name}" if name.startswith("-") else name)


def _around(path: Path, nodes: int) -> tuple[str, str]:
    """Return what the name of a part begins and ends with; the number of all keeps parts of other arrays apart."""
    return f"{path.with_suffix('')}-part-", f"-of-{nodes}{path.suffix}"


def _part(path: Path, nodes: int) -> str:
    """Return the name of the part that a task writes, for the shell."""
    stem, ending = _around(path, nodes)
    return f'{quote(stem)}"$SLURM_ARRAY_TASK_ID"{quote(ending)}'


def _lines(words: list[str]) -> str:
    """Return words on lines of their own, as far as the shell is concerned one line."""
    return " \\\n    ".join(words)
