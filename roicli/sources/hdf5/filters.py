"""The filters of HDF5 chunks, undone: the bytes of a chunk as it is stored in, those of its values out.

HDF5 leaves what a chunk does not fill as it happens to be in memory, and inflates without end; here both show.
Inflating is most of what reading takes, and libdeflate, where its package is installed, takes half the time of the
zlib that HDF5 uses.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np

Stored = bytes | bytearray | memoryview

# Their numbers in HDF5: of those of the second kind, only one may be used.
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_KNOWN = {a + b + c for a, b, c in product([(), (_SHUFFLE,)], [(), (_DEFLATE,), (_LZF,)], [(), (_FLETCHER32,)])}

_MARK = 16  # bytes; of a stream of LZF, up to 32 may be stored as they are


class Filters:
    """What the chunks of one dataset have gone through: shuffle, then deflate or LZF, then a checksum, or some of them.

    Attributes
    ----------
    any : bool
        False if chunks are stored as they are.
    """

    def __init__(self, codes: tuple[int, ...], itemsize: int, nbytes: int) -> None:
        undo: dict[int, Callable[[Stored], Stored]] = {
            _DEFLATE: lambda data: _inflated(data, nbytes),
            _LZF: _Lzf(nbytes).undo,
            _FLETCHER32: _summed,
        }
        self.any = bool(codes)
        self._itemsize, self._nbytes = itemsize, nbytes
        self._shuffled = codes[:1] == (_SHUFFLE,)
        # Each filter has a bit, in the order in which they were applied.
        self._steps = [(1 << bit, undo[code]) for bit, code in enumerate(codes) if code != _SHUFFLE][::-1]

    @classmethod
    def of(cls, dataset: Any, itemsize: int, nbytes: int) -> Filters | None:
        """Take an h5py.Dataset whose chunks are `nbytes` of values; None if it has filters that are not known here."""
        created = dataset.id.get_create_plist()
        filters = [created.get_filter(i) for i in range(created.get_nfilters())]
        codes = tuple(code for code, *_ in filters)
        if codes not in _KNOWN or (codes[:1] == (_SHUFFLE,) and filters[0][2] != (itemsize,)):
            return None
        return cls(codes, itemsize, nbytes)

    def undo(self, data: Stored, skipped: int) -> Stored:
        """Bytes of the values of a chunk that was stored as `data`, without the filters that it has `skipped`.

        Raises
        ------
        ValueError
            They are more or fewer than they should be, or cannot be had; its text begins with a verb.
        """
        try:
            for bit, step in self._steps:
                if not skipped & bit:
                    data = step(data)
        except (zlib.error, OSError) as error:
            raise ValueError(f"cannot be unpacked: {error}") from error
        if len(data) != self._nbytes:
            raise ValueError(f"does not hold {self._nbytes} bytes")
        return _unshuffled(data, self._itemsize) if self._shuffled and not skipped & 1 else data


def _inflated(data: Stored, nbytes: int) -> Stored:
    if deflate := _libdeflate():
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


@cache
def _libdeflate() -> Any:
    """Give the package of libdeflate; None on the rare machines that it is not made for."""
    try:
        import deflate
    except ImportError:
        return None
    return deflate


class _Lzf:
    """LZF, which HDF5 itself undoes, in a file in memory.

    It does not say how much a stream has filled. So each gets a few random bytes more at its end: these come out where
    they should only if what is before them has the size that it should have.
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._file: Any = None

    def undo(self, data: Stored) -> Stored:
        if self._file is None:
            import h5py

            self._all = h5py.h5s.ALL
            self._file = h5py.File(os.urandom(16).hex(), "w", driver="core", backing_store=False)
            size = (self._nbytes + _MARK,)
            self._chunk = self._file.create_dataset("chunk", size, "u1", chunks=size, compression="lzf")
        mark = os.urandom(_MARK)
        self._chunk.id.write_direct_chunk((0,), bytes(data) + bytes([_MARK - 1]) + mark)
        values = np.empty(self._nbytes + _MARK, np.uint8)
        self._chunk.id.read(self._all, self._all, values)
        return values[: self._nbytes].data if values[self._nbytes :].tobytes() == mark else b""


def _summed(data: Stored) -> Stored:
    """Take away the checksum at the end, of Fletcher: sums of big-endian words, and of these sums, modulo 65535."""
    data, stored = data[:-4], data[-4:]
    words = np.frombuffer(bytes(data) + bytes(len(data) % 2), ">u2")
    sums = np.cumsum(words, dtype=np.uint64)
    halves = sums.view(np.uint32)  # which add up to as much, modulo 65535, and not to too much
    totals = np.array([words.sum(dtype=np.uint64), halves.sum(dtype=np.uint64)]) % 65535
    totals[totals == 0] = 65535 if words.any() else 0
    found = totals.astype("<u2")
    if stored not in (found.tobytes(), found.byteswap().tobytes()):  # HDF5 1.6.2 had the bytes exchanged
        raise ValueError("has another checksum than its bytes")
    return data


def _unshuffled(data: Stored, itemsize: int) -> memoryview:
    """Put together the values whose first bytes come first, then their second bytes, and so on."""
    planes = np.frombuffer(data, np.uint8).reshape(itemsize, -1)
    values = np.empty(planes.shape[::-1], np.uint8)
    for i, plane in enumerate(planes):  # less than half the time of one transposing copy
        values[:, i] = plane
    return values.reshape(-1).data
