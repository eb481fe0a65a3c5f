"""Progress and reports, as people read them; on stderr, since stdout is for data."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from roicli.cli.lines import say
from roicli.execution import interrupts as signals
from roicli.jobs.report import RunReport

if TYPE_CHECKING:
    from rich.progress import Progress

    from roicli.jobs.merge import MergeReport


class Display:
    """Shows how a job advances: notes, and on a terminal a progress bar; see `Listener`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Print what was assumed."""
        if not self._quiet:
            say(f"note: {text}")

    def begin(self, boxes: int) -> None:
        """Start the bar, on a terminal only."""
        if self._quiet or sys.stderr is None or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        # Drawn when boxes are done, not by a thread: workers are forked, which threads would make unsafe.
        self._bar = Progress(
            TextColumn("pooling"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("boxes"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._bar.add_task("", total=boxes, rate="")
        self._bar.start()

    def advance(self, boxes: int) -> None:
        """Move the bar on."""
        signals.check()
        if self._bar is None:
            return
        task = self._bar.tasks[0]
        self._bar.update(task.id, advance=boxes, rate=f"{task.speed:,.0f}/s" if task.speed else "", refresh=True)


def show_report(report: RunReport) -> None:
    """Print the one line that says what was done, and one that says what was not."""
    boxes, images = count(report.boxes, "box", "boxes"), count(report.images, "image", "images")
    pooled = report.boxes - report.resumed
    rate = f"{pooled / report.seconds:,.0f} boxes/s, " if pooled and report.seconds else ""
    before = f", {report.resumed:,} of them before" if report.resumed else ""
    shape = " x ".join(str(side) for side in report.shape)
    say(
        f"{boxes} of {images}{before} in {report.seconds:.2f} s ({rate}peak {report.peak_memory / 2**20:.0f} MiB): "
        f"{report.output} {shape} {report.dtype}"
    )
    if report.skipped or report.zeroed:
        say(f"not pooled: {count(len(report.skipped), 'box', 'boxes')} left out, {len(report.zeroed):,} zeroed")


def show_merged(report: MergeReport) -> None:
    """Print the one line that says what was joined."""
    shape = " x ".join(str(side) for side in report.shape)
    where = ", features left in them" if report.virtual else ""
    say(f"{count(report.parts, 'part', 'parts')}{where}: {report.output} {shape} {report.dtype}")


def count(number: int, one: str, many: str) -> str:
    """Say how many of something there are."""
    return f"{number:,} {one if number == 1 else many}"
