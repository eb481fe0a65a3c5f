"""Text without control characters: names in files and of files may hold some, and a terminal would obey them."""

from __future__ import annotations

import re

# C0, DEL and C1 controls, line separators, and marks that reverse the direction of text. Our own messages continue
# lines with a space: any other line feed came with a name.
_CONTROLS = re.compile(r"(?!\n )[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Bytes of a file's name that are not UTF-8, as Python escapes them (PEP 383).
_BYTES = re.compile(r"[\udc80-\udcff]")


def plain(text: str) -> str:
    """Return text with control characters and stray bytes written out, as Python would: an escape becomes ``\\x1b``."""
    text = _BYTES.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:x}", text)
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)
