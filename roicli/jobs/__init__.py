"""Jobs: names in, files and a report out. Each binds names to objects; none knows the command line or prints."""

from roicli.jobs.align import AlignJob, align
from roicli.jobs.bind import Layout
from roicli.jobs.listener import Listener
from roicli.jobs.select import BadBoxes, MissingFeatures
from roicli.jobs.trace import Traced, TraceJob, trace

__all__ = ["AlignJob", "BadBoxes", "Layout", "Listener", "MissingFeatures", "TraceJob", "Traced", "align", "trace"]
