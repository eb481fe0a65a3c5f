"""A handle of one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


class OwnHandle:
    """What a process has open of a file; one that came through a fork belongs to the parent. Picklable, as closed.

    `open_handle`: opens it, where it is first needed; picklable, and not a method of who holds this: a circle would
    keep it open.
    """

    def __init__(self, open_handle: Callable[[], Any]) -> None:
        self._open = open_handle
        self._handle: Any = None
        self._pid = 0

    def get(self) -> Any:
        """Return the handle of this process."""
        if self._pid != os.getpid():
            self._handle = None  # first, or HDF5 would recognise the file and share the parent's descriptor
        if self._handle is None:
            self._handle = self._open()
            self._pid = os.getpid()
        return self._handle

    def close(self) -> None:
        """Release it; `get` opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None and self._pid == os.getpid():
            handle.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}
