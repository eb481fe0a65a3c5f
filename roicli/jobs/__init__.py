"""Jobs: names in, files and a report out. Each binds names to objects; none knows the command line or prints."""

from roicli.jobs.align import AlignJob, BadBoxes, align
from roicli.jobs.bind import Layout
from roicli.jobs.listener import Listener
from roicli.jobs.trace import Traced, TraceJob, trace

__all__ = ["AlignJob", "BadBoxes", "Layout", "Listener", "TraceJob", "Traced", "align", "trace"]
