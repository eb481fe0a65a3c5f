"""The filters of HDF5 chunks, undone: the bytes of a chunk as it is stored in, those of its values out.

Inflating is most of what reading takes. libdeflate, where its package is installed, takes half the time of the zlib
that HDF5 uses. What is not known here (LZF, checksums, plug-ins) is left to HDF5.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from roicli.checksums import libdeflate

Stored = bytes | bytearray | memoryview

# Their numbers in HDF5, and the orders in which they are undone here.
_DEFLATE, _SHUFFLE = 1, 2
_KNOWN = {(), (_DEFLATE,), (_SHUFFLE,), (_SHUFFLE, _DEFLATE)}


class Filters(NamedTuple):
    """What the chunks of a dataset have gone through."""

    codes: tuple[int, ...]  # HDF5's numbers of the filters, in the order in which they were applied
    itemsize: int  # bytes of a value
    nbytes: int  # bytes of the values of a chunk

    @property
    def known(self) -> bool:
        """Whether they can be undone here."""
        return self.codes in _KNOWN

    def undo(self, data: Stored, skipped: int) -> Stored:
        """Bytes of the values of a chunk that was stored as `data`, without the filters that it has `skipped`.

        Raises ValueError: they are more or fewer than they should be, or cannot be had; its text begins with a verb.
        """
        # Each filter has a bit, in the order in which they were applied.
        applied = [code for bit, code in enumerate(self.codes) if not skipped >> bit & 1]
        if _DEFLATE in applied:
            try:
                data = _inflated(data, self.nbytes)
            except zlib.error as error:
                raise ValueError(f"cannot be unpacked: {error}") from error
        if len(data) != self.nbytes:
            raise ValueError(f"does not hold {self.nbytes} bytes")
        return _unshuffled(data, self.itemsize) if _SHUFFLE in applied else data


def _inflated(data: Stored, nbytes: int) -> Stored:
    if deflate := libdeflate():
        try:
            inflated: bytearray = deflate.zlib_decompress(data, nbytes)
        except deflate.DeflateError:
            pass  # zlib says what is wrong
        else:
            return inflated
    inflating = zlib.decompressobj()
    # With room for a byte more, a stream that is right comes to its end, and a longer one shows.
    data = inflating.decompress(data, nbytes + 1)
    return data if inflating.eof else b""


def _unshuffled(data: Stored, itemsize: int) -> memoryview:
    """Put together the values whose first bytes come first, then their second bytes, and so on."""
    planes = np.frombuffer(data, np.uint8).reshape(itemsize, -1)
    values = np.empty(planes.shape[::-1], np.uint8)
    for i, plane in enumerate(planes):  # less than half the time of one transposing copy
        values[:, i] = plane
    return values.reshape(-1).data
