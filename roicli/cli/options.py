"""Options that several commands share, and the strings that they turn into values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from roicli.regions import BoxFormat
    from roicli.spec import Mode, Op, PoolSpec

Command = TypeVar("Command", bound=Callable[..., Any])


class _Name(click.Path):
    """A name that is not empty, which Path would take for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


# Whether a file can be read is for its reader to say, which names it and the remedy.
FILE = _Name(path_type=Path, readable=False)
# A file, a folder or a quoted pattern, kept as it was typed; a shell completes it.
PATTERN = _Name(path_type=str, readable=False)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def output_size(text: str) -> tuple[int, int]:
    """Read `7`, or height x width as in `7x5`."""
    found = re.fullmatch(r"(\d{1,6})(?:[xX,](\d{1,6}))?", text.strip())
    if not found:
        raise click.BadParameter(f"{text!r} is no size; give 7, or height x width such as 7x5.")
    return int(found[1]), int(found[2] or found[1])


def scale(text: str) -> float:
    """Read a positive number, or a fraction such as `1/16`."""
    numerator, slash, denominator = text.partition("/")
    try:
        number = float(numerator) / (float(denominator) if slash else 1)
    except (ValueError, ZeroDivisionError):
        number = 0.0
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is no positive number or fraction, such as 0.0625 or 1/16.")
    return number


def sampling_ratio(text: str) -> int:
    """Read a number of samples, or `auto`; -1 stands for adaptive."""
    if text.strip().lower() in ("auto", "0", "-1"):
        return -1
    if not re.fullmatch(r"\d{1,9}", text.strip()):
        raise click.BadParameter(f"{text!r} is no sampling ratio; give a whole number, or auto.")
    return int(text)


def memory(text: str) -> int:
    """Read bytes with a unit, `2GiB` or `500M`; units are powers of 1024."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise click.BadParameter(f"{text!r} is no amount of memory, such as 2GiB or 500MiB.")
    return int(float(found[1]) * _UNITS[found[2]])


def _box_format(ctx: click.Context, param: click.Parameter, value: str | None) -> BoxFormat | None:
    from roicli.regions import BoxFormat

    return BoxFormat(value) if value else None


def stacked(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Make one decorator of several options, shown by --help in this order."""

    def decorate(command: Command) -> Command:
        return reduce(lambda decorated, option: option(decorated), reversed(options), command)

    return decorate


# What is read, and how.
input_options = stacked(
    click.option("--dataset", metavar="PATH", help="Dataset or group of an HDF5 file that holds the maps."),
    click.option(
        "--layout",
        type=click.Choice(["chw", "hwc"]),
        default="chw",
        show_default=True,
        help="How a map is stored: channels first or last.",
    ),
    click.option(
        "--box-format",
        type=click.Choice(["xyxy", "xywh", "cxcywh"]),
        callback=_box_format,
        help="The four numbers of a box.  [default: xywh in COCO files, else as CSV columns say, else xyxy]",
    ),
    click.option(
        "--normalized", is_flag=True, help="Boxes are in 0..1 of the image; the spatial scale does not apply."
    ),
)

# What changes numbers.
pool_options = stacked(
    click.option(
        "--size",
        type=output_size,
        metavar="N|HxW",
        default="7",
        show_default=True,
        help="Output size: bins of a pooled block, height x width.",
    ),
    click.option(
        "--aligned/--no-aligned",
        default=False,
        show_default=True,
        help="Shift boxes by half a cell, as detectron2 does.",
    ),
    click.option(
        "--sampling-ratio",
        type=sampling_ratio,
        metavar="N|auto",
        default="auto",
        show_default=True,
        help="Samples per bin and axis; auto takes one per cell, rounded up.",
    ),
    click.option(
        "--spatial-scale",
        type=scale,
        metavar="NUMBER|A/B",
        default="1",
        show_default=True,
        help="Feature cells per image pixel, such as 1/16.",
    ),
    click.option(
        "--mode",
        type=click.Choice(["avg", "max"]),
        help="A bin is the mean or the maximum of its samples.  [default: avg; max for roi-pool]",
    ),
    click.option(
        "--op",
        type=click.Choice(["roi-align", "roi-pool"]),
        default="roi-align",
        show_default=True,
        help="RoIAlign, or RoIPool, the maximum over whole cells.",
    ),
)

reduce_option = click.option(
    "--reduce",
    type=click.Choice(["none", "mean"]),
    default="none",
    show_default=True,
    help="mean: average over all bins, one vector a box.",
)

# What becomes of boxes, and of their rows.
row_options = stacked(
    click.option(
        "--bad-boxes",
        type=click.Choice(["error", "skip", "zero", "keep"]),
        default="error",
        show_default=True,
        help="NaN and inverted boxes: stop, leave them out, write zeros, or pool inverted ones as torchvision does.",
    ),
    click.option(
        "--missing-features",
        type=click.Choice(["error", "skip", "zero"]),
        default="error",
        show_default=True,
        help="Boxes of images without features: stop, leave them out, or write zeros.",
    ),
    click.option(
        "--out-dtype",
        type=click.Choice(["float16", "float32"]),
        help="Dtype of the output.  [default: float32, or float64 as the maps]",
    ),
)


def make_spec(options: dict[str, Any]) -> PoolSpec:
    """Take what `pool_options` gave, and a reduction if there is one, out of a command's options."""
    from roicli.spec import PoolSpec

    op: Op = options.pop("op").replace("-", "_")
    mode: Mode = options.pop("mode") or ("max" if op == "roi_pool" else "avg")
    names = ("spatial_scale", "sampling_ratio", "aligned", "reduce")
    settings = {name: options.pop(name) for name in names if name in options}
    return PoolSpec(options.pop("size"), mode=mode, op=op, **settings)
