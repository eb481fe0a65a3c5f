"""A Zarr store whose files are objects of a bucket or of a web server, read by ranges as other features are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any

from roicli.errors import FileError
from roicli.stores.path import StorePath


def open_objects(root: StorePath) -> Any:
    """Return the store for zarr of the objects below a name."""
    return _kind()(root)


@cache
def _kind() -> Any:
    """Make the class, once zarr is there."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

    class Objects(Store):  # type: ignore[misc]
        supports_writes = supports_deletes = False
        supports_listing = True

        def __init__(self, root: StorePath) -> None:
            super().__init__(read_only=True)
            self._root = root

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Objects) and other._root == self._root

        def __str__(self) -> str:
            return str(self._root)

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            data = await asyncio.to_thread(self._get, key, byte_range)
            return None if data is None else prototype.buffer.from_bytes(data)

        def _get(self, key: str, wanted: Any) -> bytes | None:
            path = self._root / key
            if not path.is_file():
                return None
            stored = path.object
            first, stop = 0, stored.stamp.size
            match wanted:
                case RangeByteRequest(start, end):
                    first, stop = start, end
                case OffsetByteRequest(offset):
                    first = offset
                case SuffixByteRequest(suffix):
                    first = max(0, stop - suffix)
            out = bytearray(max(0, stop - first))
            return bytes(out[: stored.read_into(memoryview(out), first)])

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Sequence[Any]:
            return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

        async def exists(self, key: str) -> bool:
            return await asyncio.to_thread((self._root / key).is_file)

        async def list(self) -> Any:
            for key in await asyncio.to_thread(self._below, ""):
                yield key

        async def list_prefix(self, prefix: str) -> Any:
            for key in await asyncio.to_thread(self._below, prefix.rstrip("/")):
                yield key

        async def list_dir(self, prefix: str) -> Any:
            folder = prefix.rstrip("/")
            for key in await asyncio.to_thread(self._directly_below, folder):
                yield key

        def _below(self, folder: str) -> Sequence[str]:
            return [str(path.relative_to(self._root)) for path in (self._root / folder).below()]

        def _directly_below(self, folder: str) -> Sequence[str]:
            return [path.name for path in (self._root / folder).iterdir()]

        async def set(self, key: str, value: Any) -> None:
            raise FileError(f"{self} is only read")

        async def delete(self, key: str) -> None:
            raise FileError(f"{self} is only read")

    return Objects
