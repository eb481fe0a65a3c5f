"""Formats of others that are not read, each with the line that converts it."""

from __future__ import annotations

from pathlib import Path

from roicli.errors import FileError
from roicli.files import printable
from roicli.stores.path import is_store

_SAVE = "numpy.save('maps/ID.npy', map)"
_BY_SUFFIX = {
    (".pkl", ".pickle", ".joblib"): (
        "a pickle, which roicli never loads",
        "Convert it with Python: numpy.savez('maps.npz', **pickle.load(open(FILE, 'rb'))).",
    ),
    (".tfrecord", ".tfrecords"): (
        "a TFRecord file",
        f"Convert it with TensorFlow: for each record of tf.data.TFRecordDataset(FILE), parse it and {_SAVE}.",
    ),
    (".lmdb", ".mdb"): (
        "an LMDB database, whose values have a form of their own",
        f"Convert it with Python: for key, value in lmdb.open(FILE).begin().cursor(), decode the value and {_SAVE}.",
    ),
    (".tar",): ("a tar archive", "Unpack it: tar -xf FILE; then give the folder or a pattern."),
    (".gz", ".bz2", ".xz", ".zst"): ("a compressed file", "Unpack it first, for example with gunzip or unzstd."),
    (".parquet", ".arrow", ".feather"): (
        "a table of Arrow",
        f"Convert it with pyarrow: for each row, {_SAVE}.",
    ),
    (".onnx", ".ckpt", ".pb"): ("a model, not its features", "Run it, and save what it gives by numpy.save."),
    (".json", ".csv"): (
        "text, not features",
        "Features come first, boxes second. If this file says where each image's map lies, give it as `map_index`.",
    ),
}


def refusal(path: Path) -> FileError | None:
    """Make the error for a file of a format of others; None if it is not known."""
    suffix = path.suffix.lower()
    if not is_store(path) and path.is_dir() and (path / "data.mdb").exists():
        suffix = ".lmdb"
    for suffixes, (what, hint) in _BY_SUFFIX.items():
        if suffix in suffixes:
            return FileError(f"{printable(str(path))} is {what}", hint)
    return None
