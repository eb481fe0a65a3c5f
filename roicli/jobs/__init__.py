"""Jobs: names in, files and a report out. Each binds names to objects; none knows the command line or prints."""

from roicli.jobs.align import AlignJob, BadBoxes, align
from roicli.jobs.bind import Layout
from roicli.jobs.listener import Listener

__all__ = ["AlignJob", "BadBoxes", "Layout", "Listener", "align"]
