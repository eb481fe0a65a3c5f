"""The report of `roicli check` as a table."""

from __future__ import annotations

from roicli.cli.console import Console, facts
from roicli.cli.plain import plain
from roicli.jobs.check import CheckReport
from roicli.words import count, size


def show_check(report: CheckReport) -> None:
    """Print the inputs, one box followed to its map, and the output."""
    table = facts()
    table.add_row("features", plain(f"{report.features}, {count(report.maps, 'map')}"))
    how = f"{report.box_format}, in 0..1 of the image" if report.normalized else f"{report.box_format}, in pixels"
    table.add_row("boxes", plain(f"{report.boxes_file}, {report.boxes_layout}, {how}"))
    pooled = report.boxes - report.zeroed
    table.add_row("pooled", f"{count(pooled, 'box')} of {count(report.images, 'image')}")
    for number, fate in ((report.skipped, "skipped"), (report.zeroed, "written as zeros")):
        if number:
            table.add_row("", f"{count(number, 'box')} {fate}")
    if pooled:
        table.add_row("leave their maps", f"{report.partly_outside:,} partly, {report.wholly_outside:,} wholly")
    if report.masks:
        table.add_row("masks", f"{report.masks:,} decoded, {report.empty_masks:,} reach no cell")
    if report.levels:
        table.add_row("on levels", plain(", ".join(f"{name} {number:,}" for name, number in report.levels.items())))
    if report.example is not None:
        box = report.example
        height, width = box.map_size
        image = plain(f"{box.image_id}, level {box.level}" if box.level else box.image_id)
        table.add_row("for example", f"{box.where}, image {image}, map {height} cells high, {width} wide")
        steps = box.steps
        table.add_row("  in 0..1" if report.normalized else "  in pixels", _extent(*box.given) + _of(steps.image_size))
        if report.normalized and steps.pixels is not None:
            table.add_row("  in pixels", _extent(*steps.pixels))
        if steps.input_pixels is not None:
            table.add_row("  in the input", _extent(*steps.input_pixels) + _of(steps.input_size))
        table.add_row("  in cells", f"{_extent(*box.cells)}, 0 is the center of the first cell")
        table.add_row("  on the map", _share(box.inside))
    if report.alike is not None:
        table.add_row("alike", f"neighboring cells correlate by {report.alike:.2f}, near 0 in a wrong layout or grid")
    shape = " x ".join(str(side) for side in report.shape)
    table.add_row("output", f"{shape} {report.dtype}, {size(report.bytes)}")
    Console().show(table)


def _share(inside: float) -> str:
    if inside in (0, 1):
        return "all of it" if inside else "none of it"
    return f"{min(max(inside, 0.001), 0.999):.1%} of it"


def _of(size: tuple[float, float] | None) -> str:
    return "" if size is None else f", of {size[0]:g} x {size[1]:g}"


def _extent(left: float, top: float, right: float, bottom: float) -> str:
    return f"x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g}"
