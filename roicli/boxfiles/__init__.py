"""Box files: JSON, JSON Lines, CSV and .npy in, one `Regions` out.

One file a format; each knows its own layouts and hands its boxes to `table`, which knows none.
"""

from __future__ import annotations

import stat
from codecs import getincrementaldecoder
from pathlib import Path

from roicli.boxfiles.csvboxes import read_csv
from roicli.boxfiles.jsonboxes import read_json, read_json_lines
from roicli.boxfiles.lines import LONGEST_LINE
from roicli.boxfiles.npyboxes import read_npy
from roicli.errors import BoxError, FileError, RoicliError
from roicli.regions import BoxFormat, Regions

__all__ = ["READERS", "read_boxes"]

READERS = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".npy": read_npy,
}


def read_boxes(path: Path, box_format: BoxFormat | None = None) -> tuple[Regions, tuple[str, ...]]:
    """Read the boxes of one file, whatever its format.

    Parameters
    ----------
    path : Path
        The extension says which format: see `READERS`.
    box_format : BoxFormat, optional
        What the four numbers of a box mean. By default COCO datasets and results are xywh by their specification,
        the columns of a CSV say it by their names, and everything else is taken as xyxy.

    Returns
    -------
    table : Regions
        Row i is box i of the file. Values are not judged: NaN, infinite and inverted boxes are left in.
    notes : tuple of str
        One sentence for everything that was assumed rather than read.

    Raises
    ------
    FileError
        The file cannot be read, or is not of the format that its name says.
    BoxError
        Its content is not boxes.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise FileError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}", "Name a box file.")
        if (reader := READERS.get(path.suffix.lower())) is None:
            raise FileError(
                f"{path}: unknown kind of box file {path.suffix!r}", f"Give a file that ends in {', '.join(READERS)}."
            )
        table, notes = reader(path, box_format)
        return table, notes if len(table) else (*notes, f"{path} holds no boxes")
    except RoicliError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}", "Check the name and its permissions.") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}{_first_undecodable(path)}: not UTF-8 text", "Save the file as UTF-8.") from error
    except RecursionError as error:
        raise BoxError(f"{path}: nested too deeply to hold boxes", "Check that this is the right file.") from error


def _first_undecodable(path: Path) -> str:
    """Name the first line that is not UTF-8; decoders count bytes from wherever their last buffer began."""
    utf8, number = getincrementaldecoder("utf-8")(), 1
    with path.open("rb") as file:
        while part := file.readline(LONGEST_LINE):
            try:
                utf8.decode(part)
            except UnicodeDecodeError:
                return f", line {number}"
            number += part.endswith(b"\n")
    return ""
