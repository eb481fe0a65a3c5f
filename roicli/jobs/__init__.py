"""Jobs: names in, files and a report out. Each binds names to objects; none knows the command line or prints."""

from roicli.jobs.align import AlignJob, align
from roicli.jobs.bind import Layout
from roicli.jobs.check import CheckReport, check
from roicli.jobs.info import BoxesInfo, FileInfo, MapsInfo, info
from roicli.jobs.listener import Listener
from roicli.jobs.merge import MergeJob, MergeReport, merge
from roicli.jobs.prepare import PoolJob
from roicli.jobs.select import BadBoxes, MissingFeatures
from roicli.jobs.trace import Traced, TraceJob, trace

__all__ = [
    "AlignJob",
    "BadBoxes",
    "BoxesInfo",
    "CheckReport",
    "FileInfo",
    "Layout",
    "Listener",
    "MapsInfo",
    "MergeJob",
    "MergeReport",
    "MissingFeatures",
    "PoolJob",
    "TraceJob",
    "Traced",
    "align",
    "check",
    "info",
    "merge",
    "trace",
]
