"""Outputs: where pooled features are written. A format knows bytes and arrays, never coordinates."""

from roicli.sinks.index import IndexFile
from roicli.sinks.open import check_output, open_sink
from roicli.sinks.partial import check_name
from roicli.sinks.protocol import PooledSink, Record
from roicli.sinks.rowfile import RowFile

__all__ = ["IndexFile", "PooledSink", "Record", "RowFile", "check_name", "check_output", "open_sink"]
