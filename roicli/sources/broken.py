"""A file that matches a pattern, but holds no maps: what lies beside maps under a name like theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from roicli.errors import RoicliError
from roicli.files import Stamp, printable
from roicli.protocols import MapInfo
from roicli.sources.base import Maps, StoredMap


class BrokenSource(Maps):
    """One map, named by its file, whose error is raised when it is asked for."""

    labelled = True

    def __init__(self, path: Path, error: RoicliError) -> None:
        self._path, self.error = str(path), error
        self.ids = (printable(path.stem),)
        self.stamps: dict[str, Stamp] = {}

    @property
    def name(self) -> str:
        """The file, for messages."""
        return printable(self._path)

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self._path,)

    def info(self, index: int) -> MapInfo:
        """Raise the error."""
        self._fail()

    def read(self, index: int) -> NDArray[Any]:
        """Raise the error."""
        self._fail()

    def beside(self, name: str) -> StoredMap | None:
        """Return None."""
        return None

    def close(self) -> None:
        """Do nothing."""

    def _fail(self) -> NoReturn:
        raise type(self.error)(self.error.message, self.error.hint)
