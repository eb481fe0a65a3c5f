"""Outputs: where pooled features are written. A format knows bytes and arrays, never coordinates."""

from roicli.sinks.index import IndexFile
from roicli.sinks.open import HDF5_SUFFIXES, check_output, open_sink
from roicli.sinks.partial import check_name, in_words
from roicli.sinks.protocol import PooledSink, Record
from roicli.sinks.rowfile import RowFile
from roicli.sinks.shardfile import ShardFile, shard_file
from roicli.sinks.virtual import Stretch, VirtualFile

__all__ = [
    "HDF5_SUFFIXES",
    "IndexFile",
    "PooledSink",
    "Record",
    "RowFile",
    "ShardFile",
    "Stretch",
    "VirtualFile",
    "check_name",
    "check_output",
    "in_words",
    "open_sink",
    "shard_file",
]
