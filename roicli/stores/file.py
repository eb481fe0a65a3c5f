"""An object as a file: its first bytes and others near each other are kept, large pieces are fetched to the byte."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from roicli.files import Stamp, file_size
from roicli.stores import requests
from roicli.stores.requests import Address

# What is read in small pieces, such as headers, is fetched in blocks, of which the last few are kept.
_BLOCK, _KEPT = 2**14, 256
# Ranges so near each other are fetched as one. Of what is read from its beginning to its end, so much is fetched ahead.
_GAP, _AHEAD = 2**12, 2**23


class StoredObject:
    """What a process knows of an object: its state at first, and blocks of it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._stamp: Stamp | None = None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._starts: list[int] = []
        self._parts: list[bytes] = []

    @property
    def stamp(self) -> Stamp:
        """Its state when its first bytes were read; FileNotFoundError if it does not exist."""
        if self._stamp is None:
            self.blocks(0, 1)
        assert self._stamp is not None
        return self._stamp

    def trust(self, stamp: Stamp) -> None:
        """Take a state for its own; ChangedInputError if it has another, or once it is found to have."""
        if self._stamp is None:
            self._stamp = stamp
        elif self._stamp != stamp:
            raise requests.changed(self.address.shown)

    def blocks(self, first: int, stop: int) -> bytes:
        """Return the blocks from `first` on, before `stop`."""
        missing = [number for number in range(first, stop) if number not in self._blocks]
        if missing:

            def take(at: int, data: bytes, stamp: Stamp) -> None:
                self.trust(stamp)
                for start in range(at, at + len(data), _BLOCK):
                    self._blocks[start // _BLOCK] = data[start - at : start - at + _BLOCK]

            requests.fetch_all(self.address, [(missing[0] * _BLOCK, (missing[-1] + 1) * _BLOCK)], take)
        found = b"".join(self._blocks.get(number, b"") for number in range(first, stop))
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        return found

    def read_into(self, view: memoryview, start: int) -> int:
        """Fill a buffer with bytes from `start` on; return how many there are."""
        length = max(0, min(view.nbytes, self.stamp.size - start))
        held = self.holds(start)[:length]
        done = len(held)
        view[:done] = held
        while done < length and (block := self._blocks.get((start + done) // _BLOCK)) is not None:
            inside = (start + done) % _BLOCK
            part = block[inside : inside + length - done]
            view[done : done + len(part)] = part
            done += len(part)
        if length - done <= _BLOCK:
            if done < length:
                first, last = (start + done) // _BLOCK, (start + length - 1) // _BLOCK
                inside = start + done - first * _BLOCK
                view[done:length] = self.blocks(first, last + 1)[inside : inside + length - done]
            return length

        def take(at: int, data: bytes, stamp: Stamp) -> None:
            self.trust(stamp)
            view[at - start : at - start + len(data)] = data

        requests.fetch_all(self.address, [(start + done, start + length)], take)
        return length

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch ranges, as offsets and sizes, that are read next: those near each other as one.

        They are held until the next call for any object.
        """
        global _holder
        if _holder is not None:
            _holder._starts, _holder._parts = [], []
        _holder = self
        spans: list[list[int]] = []
        for start, size in sorted(ranges):
            if spans and start - spans[-1][1] <= _GAP:
                spans[-1][1] = max(spans[-1][1], start + size)
            else:
                spans.append([start, start + size])
        parts: dict[int, bytearray] = {start: bytearray(stop - start) for start, stop in spans}
        self._starts = sorted(parts)

        def take(at: int, data: bytes, stamp: Stamp) -> None:
            self.trust(stamp)
            start = self._starts[bisect_right(self._starts, at) - 1]
            parts[start][at - start : at - start + len(data)] = data

        requests.fetch_all(self.address, [(start, stop) for start, stop in spans], take)
        self._parts = [bytes(parts[start]) for start in self._starts]

    def holds(self, start: int) -> memoryview:
        """Return what is held of expected bytes from `start` on."""
        number = bisect_right(self._starts, start) - 1
        if number < 0:
            return memoryview(b"")
        return memoryview(self._parts[number])[start - self._starts[number] :]


_holder: StoredObject | None = None


class StoreFile(io.RawIOBase):
    """An object that is open to be read."""

    def __init__(self, of: StoredObject) -> None:
        self._object, self._at, self._ahead = of, 0, 0

    @property
    def name(self) -> str:
        """Its address."""
        return self._object.address.shown

    @property
    def stamp(self) -> Stamp:
        """Its state."""
        return self._object.stamp

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self.stamp.size if whence == 2 else 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the object goes."""
        if self._at < self._ahead and not self._object.holds(self._at):
            self.expect([(self._at, min(_AHEAD, self._ahead - self._at))])
        count = self.read_into(memoryview(buffer).cast("B"), self._at)
        self._at += count
        return count

    def readall(self) -> bytes:
        """Return the rest."""
        return self.read(max(0, self.stamp.size - self._at)) or b""

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch ranges, as offsets and sizes, that are read next."""
        self._object.expect(ranges)

    def read_into(self, view: memoryview, start: int) -> int:
        """Fill a buffer with bytes from `start` on; return how many there are."""
        return self._object.read_into(view, start)

    def read_ahead(self, stop: int) -> None:
        """Expect that all bytes up to `stop` are read, one after the other."""
        self._ahead = min(stop, self.stamp.size)


def open_bytes(path: Path, known: Stamp | None = None) -> IO[bytes]:
    """Open a file or an object to read parts of it; of an object whose state is known, nothing else is asked first."""
    stored: StoredObject | None = getattr(path, "object", None)
    if stored is None:
        file_size(path)  # before a pipe is opened, which would wait
        return path.open("rb", buffering=0)
    if known is not None:
        stored.trust(known)
    return StoreFile(stored)  # type: ignore[return-value]


def expect(file: IO[bytes] | None, ranges: Iterable[tuple[int, int]]) -> None:
    """Fetch ranges, as offsets and sizes, several at a time, if they are in a store and read next."""
    if isinstance(file, StoreFile):
        file.expect(ranges)


def read_ahead(file: IO[bytes] | None, stop: int) -> None:
    """Let an object be fetched in large pieces, if it is read up to `stop` from where it is."""
    if isinstance(file, StoreFile):
        file.read_ahead(stop)


def stamp_of(file: IO[bytes]) -> Stamp:
    """Return the state of an open file or object."""
    return file.stamp if isinstance(file, StoreFile) else Stamp.of(file.fileno())


def read_at(file: IO[bytes], size: int, start: int) -> bytes:
    """Read bytes from a place in a file, fewer where it ends."""
    if isinstance(file, StoreFile):
        out = bytearray(size)
        return bytes(out[: file.read_into(memoryview(out), start)])
    return os.pread(file.fileno(), size, start)


def read_some(file: IO[bytes] | int, view: memoryview, start: int) -> int:
    """Fill a part of a buffer from a place in a file; return how much of it, nothing where the file ends."""
    if isinstance(file, StoreFile):
        return file.read_into(view, start)
    return os.preadv(file if isinstance(file, int) else file.fileno(), [view], start)
