"""The reports of `roicli verify` and `roicli identify` as tables."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from roicli.cli.console import Console, facts
from roicli.cli.lines import ENDLESS
from roicli.cli.plain import plain
from roicli.jobs.answers import Answer, Identified
from roicli.jobs.solved import Footprint
from roicli.jobs.verify import VerifyReport
from roicli.words import count

UNSOLVED = "no weights of cells explain RoIs: a maximum, vectors, other maps, or too few channels to tell"
WEIGHTS = "solved: what it read", "ours: what the options say"
_SHOWN = 8  # answers
_CELL, _ROWS, _SHADES = 8, 16, (" ░▒▓█", " .:*#")  # of weights: characters of a cell, rows, and how dark they are


def show_verified(report: VerifyReport, features: str, boxes: Path, options: dict[str, Any]) -> None:
    """Print whether a reference agrees with what some options give, how much it differs, and where most."""
    table = facts()
    table.add_row("reference", plain(f"{report.reference}, {report.reading}, {report.rounding}"))
    share = f"{report.agreeing:,} of {count(report.boxes, 'RoI')} ({report.agreeing / max(report.boxes, 1):.1%})"
    table.add_row("agree", f"{share} within {report.tolerance:g} of the spread")
    of_spread = f"{report.largest / report.spread:.3g} of the spread, {report.ulp:.3g} ULP"
    table.add_row("largest", f"{report.largest:.3g}: {of_spread}")
    table.add_row("mean", f"{report.mean:.3g}: {report.mean / report.spread:.3g} of the spread")
    for bound, number in report.histogram:
        if number:
            upto = "beyond" if math.isinf(bound) else f"up to {bound:g}"
            bar = "#" * max(1, round(40 * number / max(report.boxes, 1)))
            table.add_row("", f"{upto:<12} {number:>9,} {bar}")
    if report.worst and not report.agrees:
        at, (y, x) = report.worst, report.worst["bin"]
        table.add_row("worst", f"RoI {at['row']}, channel {at['channel']}, bin {y},{x}")
        options = options | {"size": at["size"]}
        where = f"--roi {at['row']} --channel {at['channel']} --bin {y},{x}"
        table.add_row("trace it", plain(f"{_command('trace', features, boxes, options)} {where}"))
        table.add_row("find why", plain(_command("identify", report.reference, features, boxes, options)))
    Console().show(table)


def show_identified(found: Identified) -> None:
    """Print all that fits, what to pass on, and what would tell the answers apart; or the nearest."""
    table = facts()
    table.add_row("reference", plain(f"{found.reference}, {found.reading}, {found.rounding}"))
    compared = f"{count(found.checked, 'RoI')} compared"
    if found.noise:
        compared += f", up to noise of {found.noise:.2g} of the spread"
    if not found.fits:
        table.add_row("nothing fits", f"{compared}; the nearest is")
    elif len(found.answers) == 1:
        table.add_row("identified", compared)
    else:
        table.add_row("one of", f"{count(len(found.answers), 'answer')} that fit alike: {compared}")
    for answer in found.answers[:_SHOWN]:
        _add(table, answer)
    if len(found.answers) > _SHOWN:
        table.add_row("", "")
        table.add_row("", f"and {count(len(found.answers) - _SHOWN, 'answer')} more: --json lists all")
    if found.footprint is None and not found.fits:
        table.add_row("weights", UNSOLVED)
    if found.telling:
        table.add_row("to tell them", plain(found.telling))
    Console().show(table)
    if found.footprint is not None:
        show_weights(found.footprint)


def show_weights(found: Footprint) -> None:
    """Print solved weights and ours as shaded cells with their values, beside each other where there is room."""
    console = Console()
    shades = _SHADES[not console.encoding.startswith("utf")]
    (y1, y2), (x1, x2) = found.y, found.x
    console.show(
        "",
        f"RoI {found.row} read y {y1:.4g} to {y2:.4g}, x {x1:.4g} to {x2:.4g}, in cells,",
        f"with these weights in its bin {found.bin[0]},{found.bin[1]}, by rows and columns of the map:",
    )
    most = max(1e-9, *map(max, (*found.read, *found.ours)))
    rows = _part([sum(line) for line in found.read], _ROWS)
    columns = _part([sum(line) for line in zip(*found.read, strict=True)], (min(console.width, 160) - 5) // _CELL)
    blocks = []
    for title, weights in zip(WEIGHTS, (found.read, found.ours), strict=True):
        numbers = "".join(f"{found.corner[1] + column:>{_CELL - 1}} " for column in columns)
        blocks.append(["", title, " " * 5 + numbers])
        for row in rows:
            cells = (_cell(weights[row][column], most, shades) for column in columns)
            blocks[-1].append(f"{found.corner[0] + row:>4} " + "".join(cells))
    wide = 5 + len(columns) * _CELL + 3
    if 2 * wide <= console.width < ENDLESS:
        console.show(*(left.ljust(wide) + right for left, right in zip(*blocks, strict=True)))
    else:
        console.show(*chain(*blocks))
    if (len(rows), len(columns)) != (len(found.read), len(found.read[0])):
        console.show(f"Part of {len(found.read)} x {len(found.read[0])} cells; --picture draws all")


def _part(weights: Sequence[float], most: int) -> range:
    """Return at most so many numbers around the middle of weights."""
    shown = min(max(most, 1), len(weights))
    middle = sum(number * weight for number, weight in enumerate(weights)) / (sum(weights) or 1)
    first = min(max(round(middle - (shown - 1) / 2), 0), len(weights) - shown)
    return range(first, first + shown)


def _cell(weight: float, most: float, shades: str) -> str:
    return f"{shades[round(4 * max(weight, 0) / most)] * 2}{weight:5.3f} " if weight >= 5e-4 else f"{'.':>7} "


def _add(table: Table, answer: Answer) -> None:
    table.add_row("", "")
    table.add_row("computed", plain(answer.settings))
    if answer.boxes:
        table.add_row("but", plain(answer.boxes))
    for same in answer.same[:3]:
        table.add_row("the same as", plain(same))
    if answer.convention:
        table.add_row("as", plain(", ".join(answer.convention)))
    table.add_row("align", plain(options_in_words(answer.options)))
    table.add_row("difference", f"{answer.largest:.3g} at most, {answer.spread:.3g} of the spread")
    if answer.failing:
        table.add_row("fails in", plain("RoI " + ", ".join(map(str, answer.failing))))


def options_in_words(options: dict[str, Any]) -> str:
    """Return options of `align` as they are typed."""
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-"))
        else:
            words.append(f"{flag} {_typed(name, value)}")
    return " ".join(words)


def _typed(name: str, value: Any) -> str:
    if isinstance(value, tuple | list):
        return "x".join(map(str, value)) if name in ("size", "grid") else ",".join(_typed(name, one) for one in value)
    if isinstance(value, float):
        return f"1/{1 / value:g}" if 0 < value < 1 and (1 / value).is_integer() else f"{value:.8g}"
    if name == "sampling_ratio":
        return "auto" if value == -1 else str(value)
    return str(value).replace("_", "-") if name == "op" else shlex.quote(str(value))


def _command(name: str, *given: object) -> str:
    """Return a command on some files, with those of the options, the last of `given`, that it has."""
    *files, options = given
    context = click.get_current_context()
    group = context.find_root().command
    assert isinstance(options, dict)
    assert isinstance(group, click.Group)
    command = group.get_command(context, name)
    defaults = {one.name: one.get_default(context) or False for one in command.params} if command else {}
    said = {name: value for name, value in options.items() if name in defaults and value not in (None, defaults[name])}
    kept = {name: value for name, value in said.items() if _typed(name, value) != str(defaults[name])}
    return " ".join(["roicli", name, *(shlex.quote(str(file)) for file in files), options_in_words(kept)]).rstrip()
