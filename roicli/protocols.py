"""What the rooms ask of each other: a source of feature maps, and where pooled rows go, whatever their formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from roicli import arrays
from roicli.files import Stamp


class MapInfo(NamedTuple):
    """Shape and dtype of one feature map, known without reading its values.

    Attributes
    ----------
    shape : (C, H, W)
        Channels, height and width in cells, whatever the layout of the file.
    dtype : numpy.dtype
        As stored.
    where : str
        File and dataset or member, for messages.
    note : str
        What was assumed of its values, if anything.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    where: str
    note: str = ""

    @property
    def may_be_mapped(self) -> bool:
        """Whether it is so large that its file may be mapped, not read."""
        return self.nbytes > arrays.READ_AT_MOST

    @property
    def nbytes(self) -> int:
        """Size of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


class StoredMap(NamedTuple):
    """One feature map as it is stored: its shape before the layout is applied, and how to get its values."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]
    note: str = ""  # see `MapInfo`
    span: tuple[int, int] | None = None  # offset and size in its file, where it lies there in one piece


class Shared(NamedTuple):
    """Storage that holds pieces of several maps: chunks, or an array in Fortran order."""

    # Which of the source's it is: maps with the same are best read together, since each alone takes as long
    key: tuple[int, ...]
    remedy: str  # what writes the file anew, each map in one piece


class Level(NamedTuple):
    """One level of a feature pyramid: its name, and the input pixels of each of its cells along either axis."""

    name: str
    stride: float


class FeatureSource(Protocol):
    """Feature maps in files, in a fixed order.

    A source is picklable and opens its files where it is used: each worker process has its own handles. Opening one
    has checked the format, the rank and the dtype of what it lists; `info` and `read` may still find one map broken.

    Attributes
    ----------
    name : str
        The files, for messages.
    ids : sequence of str
        Image id of each map.
    labelled : bool
        True if `ids` come from the files (names of datasets, members, files; a dataset of ids), False if they only
        count the maps of one 4-D array: "0", "1", ...
    levels : tuple of Level
        Of a pyramid, whose map ``image * len(levels) + level`` `info` and `read` take; empty for other sources.
    paths : tuple of str
        The files that hold the maps.
    stamps : mapping of str to Stamp
        State of the files that were opened so far, each taken before its first byte was read. Every later opening
        raises ChangedInputError if the file has another.

    Examples
    --------
    >>> source = open_source("feats.h5")  # doctest: +SKIP
    >>> len(source), source[0].shape, source["000000000139"].shape  # doctest: +SKIP
    (16, (256, 50, 68), (256, 50, 68))
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NDArray[Any]]: ...

    def __getitem__(self, key: int | str) -> NDArray[Any]:
        """Read a map by its position or image id; raises IndexError or FeatureError if there is none."""
        ...

    @property
    def name(self) -> str:
        """The files, for messages."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Image id of each map."""
        ...

    @property
    def labelled(self) -> bool:
        """Whether `ids` come from the files."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of a pyramid; empty for other sources."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that hold the maps."""
        ...

    @property
    def stamps(self) -> Mapping[str, Stamp]:
        """State of the files that were opened so far."""
        ...

    def info(self, index: int) -> MapInfo:
        """Shape and dtype of map `index`; raises FeatureError or FileError that names file and dataset."""
        ...

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W), native or not, strided or not; a memory map if it is large and stored plainly."""
        ...

    def shared(self, index: int) -> Shared | None:
        """Return the storage that map `index` shares with others; None if it has its own."""
        ...

    def expect(self, indices: Sequence[int]) -> None:
        """Hold these maps, as far as they share storage, from when one of them is read: ascending, in place of others.

        How many there may be is up to the caller; without this call a source holds a few.
        """
        ...

    def beside(self, name: str) -> StoredMap | None:
        """Return an array of the same file that is not a map, such as `grid_thw`; None if there is none."""
        ...

    def close(self) -> None:
        """Release the handles held by this process; the next `info` or `read` opens them again."""
        ...


class Masks(Protocol):
    """Masks of K regions, as their file encodes them; each is decoded when it is asked for. Picklable."""

    def __len__(self) -> int: ...

    def take(self, rows: Any) -> Masks:
        """Return the masks at `rows`, an index or a slice, in that order."""
        ...

    @property
    def checksum(self) -> int:
        """Tells the masks of one file from those of another, whichever regions of it these are."""
        ...

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which regions have a mask, be it an empty one."""
        ...

    def size(self, row: int) -> tuple[int, int] | None:
        """Return height and width of a mask that says them."""
        ...

    def decode(self, row: int, size: tuple[int, int] | None, canvas: tuple[int, int]) -> NDArray[np.bool_]:
        """Decode the mask of one region, (height, width) in pixels of its image; empty if it has none.

        `size` is that of the image, None if it is not known; outlines are drawn within `canvas` then. BoxError if the
        mask has another size.
        """
        ...


class RowTarget(Protocol):
    """Where pooled rows go."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values, as they are written."""
        ...

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (C, PH, PW) or (C,)."""
        ...

    def write(self, rows: NDArray[np.intp], block: NDArray[Any]) -> None:
        """Write `block`, (k, *row_shape), to the k rows `rows`, ascending; any number of workers do so at once."""
        ...

    def commit(self) -> None:
        """Write what this thread has kept of the rows of the task that ends; OutputError if that fails."""
        ...

    def flush(self) -> None:
        """Force what any worker has written onto the disk; OutputError if that fails."""
        ...


class OpenedTarget(RowTarget, Protocol):
    """Where pooled rows go, for workers that open it by its name."""

    def open(self) -> int:
        """Return the descriptor of this process, opened by now; OutputError if the system refuses one."""
        ...
