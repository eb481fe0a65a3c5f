"""The report of `roicli info` as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.table import Table

from roicli.cli.console import Console, facts
from roicli.cli.flags import as_flags
from roicli.cli.plain import plain
from roicli.jobs.damage import Damage
from roicli.jobs.info import BoxesInfo, FileInfo, MapsInfo
from roicli.sources.inventory import Inventory
from roicli.words import count, listing, size

# Most kinds of arrays or maps in a table, the most frequent first.
_SHOWN = 20
# Width of a table of arrays with short names, and the length of names that are not broken.
_TABLE, _NAME = 70, 16


def show_info(info: FileInfo) -> None:
    """Print what it is, then its arrays."""
    console = Console()
    table = facts()
    there = size(info.bytes) if info.files else "not there yet"
    files = f", {count(info.files, 'file')}" if info.files > 1 else ""
    table.add_row("file", plain(f"{info.name}{files}, {there}"))
    if info.output:
        table.add_row("belongs to", plain(info.output))
    for name, value in (*_unfinished(info), *_parameters(info.parameters, "written by")):
        table.add_row(plain(name), plain(value))
    if info.verified is not None:
        table.add_row("checksums", plain(_verified(info.verified)))
    if info.pooled:
        table.add_row("perhaps", plain(info.pooled))
    for name, value in (*_maps(info.maps), *_boxes(info.boxes)):
        table.add_row(name, plain(value))
    if info.not_maps:
        table.add_row("not maps", plain(info.not_maps.partition(":\n")[0]))
    console.show(table)
    if info.arrays is not None and info.boxes is None:
        console.show("", _arrays(info.arrays), least=_TABLE)


def _parameters(parameters: Mapping[str, object], by: str) -> Iterator[tuple[str, str]]:
    if not parameters:
        return
    yield by, f"roicli {parameters.get('roicli_version', '?')}"
    for name, value in parameters.items():
        if name != "roicli_version" and value != "":
            yield f"  {name}", str(value)


def _verified(found: Damage) -> str:
    if not found.damaged:
        return f"all {count(found.rows, 'row')} fit"
    runs = [f"{first}-{last}" if last > first else str(first) for first, last in found.damaged]
    return f"damaged rows: {listing(runs, _SHOWN)}; make them again"


def _unfinished(info: FileInfo) -> Iterator[tuple[str, str]]:
    found = info.unfinished
    if found is None:
        return
    if found.output != info.name:
        yield "belongs to", f"{found.output}, {'which is there' if found.exists else 'not there yet'}"
    yield "unfinished", found.state
    if found.writer is not None:
        writer = found.writer
        of = f"process {writer.process} of {writer.host}"
        yield "  written by", of if writer.alive else f"{of}, which has ended"
    if found.remedy:
        yield "  what to do", as_flags(found.remedy)
    yield "  beside it", ", ".join(found.files)
    yield from _parameters(found.job, "its job")


def _maps(maps: MapsInfo | None) -> Iterator[tuple[str, str]]:
    if maps is None:
        return
    looked_at = f", {maps.looked_at:,} of them looked at" if maps.looked_at < maps.count else ""
    yield "feature maps", f"{maps.count:,}{looked_at}"
    if maps.levels:
        yield "  levels", maps.levels
    more = ", ..." if maps.count > len(maps.ids) else ""
    named = "image ids" if maps.labelled else "numbered"
    if not maps.ids:
        return
    yield f"  {named}", f"{', '.join(maps.ids)}{more}"
    if maps.channels:
        more = ", ..." if len(maps.channels) > _SHOWN else ""
        yield "  channels", ", ".join(map(str, maps.channels[:_SHOWN])) + more
    for number, (shape, dtype, maps_of_it) in enumerate(maps.kinds[:_SHOWN]):
        yield "  (C, H, W)" if not number else "", f"{shape} {dtype}: {count(maps_of_it, 'map')}"
    if len(maps.kinds) > _SHOWN:
        yield "", f"and {len(maps.kinds) - _SHOWN:,} shapes more"
    for fault in maps.faults:
        yield "  broken", fault


def _boxes(boxes: BoxesInfo | None) -> Iterator[tuple[str, str]]:
    if boxes is None:
        return
    fewest, median, most = boxes.per_image
    yield "boxes", f"{boxes.count:,} of {count(boxes.images, 'image')}"
    if not boxes.count:
        return
    yield "  an image has", f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}, median {median:g}"
    yield "  images by", boxes.images_by
    yield "  taken as", boxes.box_format
    for reason in boxes.assumed:
        yield "", reason
    for reading, inverted in boxes.inverted.items():
        yield f"  as {reading}", f"{inverted:,} inverted"
    if boxes.unusable:
        yield "  unusable", f"{boxes.unusable:,} {'is' if boxes.unusable == 1 else 'are'} NaN, infinite or beyond 1e9"
    if boxes.extent is not None:
        left, top, right, bottom = boxes.extent
        yield "  all lie in", f"x {left:g} to {right:g}, y {top:g} to {bottom:g}"


def _arrays(arrays: Inventory) -> Table:
    looked_at = f", {arrays.looked_at:,} of them looked at" if arrays.looked_at < arrays.arrays else ""
    table = Table(
        title=f"{count(arrays.arrays, 'array')}{looked_at}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    shown = arrays.kinds[:_SHOWN]
    longest = max((len(name) for alike in shown for name in alike.names), default=0)
    for header in ("arrays", "names", "shape", "dtype", "stored", "size"):
        if header == "names":
            table.add_column(header, overflow="fold", min_width=min(longest + 1, _NAME))
        else:
            numeric = header in ("arrays", "size")
            table.add_column(header, justify="right" if numeric else "left", no_wrap=True, overflow="fold")
    for alike in shown:
        names = ", ".join(alike.names) + (", ..." if alike.count > len(alike.names) else "")
        shape, dtype, storage = alike.kind
        table.add_row(f"{alike.count:,}", plain(names), str(shape), dtype, storage, size(alike.stored))
    if len(arrays.kinds) > _SHOWN:
        table.caption = f"and {len(arrays.kinds) - _SHOWN:,} kinds more"
        table.caption_justify = "left"
    return table
