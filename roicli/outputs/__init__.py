"""Rows to files and back: one file a format."""
