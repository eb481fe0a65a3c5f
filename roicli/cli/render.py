"""Progress and reports, as people read them; on stderr, since stdout is for data."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from roicli.cli.lines import say
from roicli.jobs.report import RunReport
from roicli.words import count, size

if TYPE_CHECKING:
    from rich.progress import Progress

    from roicli.jobs.convert import ConvertReport
    from roicli.jobs.merge import MergeReport


class Display:
    """Shows how a job advances: a bar on a terminal, and elsewhere a line now and then; see `Listener`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._boxes = self._done = 0
        self._began = self._said = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Print what was assumed."""
        if not self._quiet:
            say(f"note: {text}")

    def warn(self, text: str) -> None:
        """Print what looks like a mistake."""
        if not self._quiet:
            say(f"warning: {text}")

    def begin(self, boxes: int) -> None:
        """Start the clock, and the bar on a terminal."""
        self._boxes, self._done = boxes, 0
        self._began = self._said = time.monotonic()
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            self._bar = _make_bar(boxes)

    def advance(self, boxes: int) -> None:
        """Move the bar on."""
        self._done += boxes
        if self._bar is not None:
            task = self._bar.tasks[0]
            self._bar.update(task.id, advance=boxes, rate=f"{task.speed:,.0f}/s" if task.speed else "", refresh=True)
        elif not self._quiet:
            self._say_now_and_then()

    def _say_now_and_then(self) -> None:
        """Print a line each minute, and each tenth of a job that takes more than ten."""
        now = time.monotonic()
        passed = now - self._began
        total = passed * self._boxes / max(self._done, 1)
        if now - self._said >= max(60, total / 10):
            self._said = now
            share = self._done / self._boxes
            left = f"about {(total - passed) / 60:,.0f} min left"
            say(f"pooled {self._done:,} of {count(self._boxes, 'box')} ({share:.0%}), {left}")


def _make_bar(boxes: int) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    # Redrawn when boxes are done, not by a thread: forking workers beside a thread is unsafe.
    bar = Progress(
        TextColumn("pooling"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} boxes"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
    bar.add_task("", total=boxes, rate="")
    bar.start()
    return bar


def show_report(report: RunReport) -> None:
    """Print the one line that says what was done, and one that says what was not."""
    boxes, images = count(report.boxes, "box"), count(report.images, "image")
    pooled = report.boxes - report.resumed
    rate = f"{pooled / report.seconds:,.0f} boxes/s, " if pooled and report.seconds else ""
    before = f", {report.resumed:,} by an earlier run" if report.resumed else ""
    shape = " x ".join(str(side) for side in report.shape)
    say(
        f"{boxes} of {images}{before} in {report.seconds:.2f} s ({rate}peak {size(report.peak_memory)}): "
        f"{report.output} {shape} {report.dtype}"
    )
    if report.skipped or report.zeroed:
        say(f"not pooled: {count(len(report.skipped), 'box')} skipped, {len(report.zeroed):,} written as zeros")


def show_converted(report: ConvertReport, index: Path | None) -> None:
    """Print the one line that says what was written, and whether it says less than it was made of."""
    say(f"{report.output} {' x '.join(map(str, report.shape))} {report.dtype}, read back")
    if not report.record and index is None:
        say("note: an .npy holds the features alone; --index writes whose they are")


def show_merged(report: MergeReport) -> None:
    """Print the one line that says what was joined."""
    shape = " x ".join(str(side) for side in report.shape)
    where = ", features left in them" if report.virtual else ""
    say(f"{count(report.parts, 'part')}{where}: {report.output} {shape} {report.dtype}")
