"""Image ids of feature maps that have none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import eq
from typing import overload

_COUNT = re.compile("0|[1-9][0-9]{0,18}")


class Counted(Sequence[str]):
    """Image ids of maps that have none, "0", "1", ..., without holding them, since a file may claim any number.

    Examples
    --------
    >>> Counted(10**12)[-1]
    '999999999999'
    """

    def __init__(self, count: int) -> None:
        self._range = range(count)

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return [*map(str, self._range[index])] if isinstance(index, slice) else str(self._range[index])

    def find(self, image_id: str) -> int:
        """Return the position of an id, -1 if there is none."""
        position = int(image_id) if _COUNT.fullmatch(image_id) else -1
        return position if position < len(self) else -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]
