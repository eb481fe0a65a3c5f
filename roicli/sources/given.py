"""Maps that a program hands over: no file holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.protocols import StoredMap
from roicli.sources.base import MapSource
from roicli.sources.layout import MapLayout


class GivenSource(MapSource):
    """One map under an image id, or the ids of maps to come."""

    labelled = True

    def __init__(self, ids: Sequence[str], layout: MapLayout, array: NDArray[Any] | None = None) -> None:
        super().__init__(Path("features"), layout)
        self.ids = ids
        self._array = array

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"features of image {self.ids[0]!r}" if len(self.ids) == 1 else "the features"

    @property
    def paths(self) -> tuple[str, ...]:
        """No file."""
        return ()

    def _find(self, index: int) -> StoredMap:
        assert self._array is not None
        array = self._array
        return self._without_batch(StoredMap(self.name, array.shape, array.dtype, lambda: array))


def as_array(features: Any, name: str) -> NDArray[Any]:
    """Return what a program hands over as an array of NumPy, without a copy where that is possible.

    Raises FeatureError: it is not in the memory of the CPU, or of a dtype that NumPy does not know.
    """
    if isinstance(features, np.ndarray):
        return features
    try:
        return np.from_dlpack(features) if hasattr(features, "__dlpack__") else np.asarray(features)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise FeatureError(
            f"the {name} cannot be read as an array: {error}",
            "Give a NumPy array; of a torch tensor, tensor.detach().float().cpu().",
        ) from error
