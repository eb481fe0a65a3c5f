"""Outputs: where pooled features are written. A format knows bytes and arrays, never coordinates."""

from roicli.sinks.claim import Claim, LostClaimError
from roicli.sinks.index import IndexFile
from roicli.sinks.journal import Journal, Progress
from roicli.sinks.open import check_output, discard_past, find_past, open_sink
from roicli.sinks.partial import check_name
from roicli.sinks.past import Past
from roicli.sinks.protocol import PooledSink, Record
from roicli.sinks.rowfile import RowFile
from roicli.sinks.skipped import Skipped, SkippedFile, StaleFile

__all__ = [
    "Claim",
    "IndexFile",
    "Journal",
    "LostClaimError",
    "Past",
    "PooledSink",
    "Progress",
    "Record",
    "RowFile",
    "Skipped",
    "SkippedFile",
    "StaleFile",
    "check_name",
    "check_output",
    "discard_past",
    "find_past",
    "open_sink",
]
