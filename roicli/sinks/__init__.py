"""Outputs: where pooled features are written. A format knows bytes and arrays, never coordinates."""

from roicli.sinks.claim import Claim, LostClaimError, Owner, is_alive
from roicli.sinks.index import IndexFile
from roicli.sinks.journal import Journal, Progress, journal_path
from roicli.sinks.open import (
    HDF5_SUFFIXES,
    are_rows_beside,
    check_output,
    discard_past,
    discard_rows,
    find_past,
    open_sink,
)
from roicli.sinks.partial import check_name, in_words
from roicli.sinks.past import Past
from roicli.sinks.protocol import PooledSink, Record
from roicli.sinks.rowfile import RowFile
from roicli.sinks.shardfile import ShardFile, shard_file
from roicli.sinks.skipped import Skipped, SkippedFile, StaleFile
from roicli.sinks.virtual import Stretch, VirtualFile

__all__ = [
    "HDF5_SUFFIXES",
    "Claim",
    "IndexFile",
    "Journal",
    "LostClaimError",
    "Owner",
    "Past",
    "PooledSink",
    "Progress",
    "Record",
    "RowFile",
    "ShardFile",
    "Skipped",
    "SkippedFile",
    "StaleFile",
    "Stretch",
    "VirtualFile",
    "are_rows_beside",
    "check_name",
    "check_output",
    "discard_past",
    "discard_rows",
    "find_past",
    "in_words",
    "is_alive",
    "journal_path",
    "open_sink",
    "shard_file",
]
