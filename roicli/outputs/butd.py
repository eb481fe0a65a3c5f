"""HDF5 files as the loaders of bottom-up attention features read them: the boxes of an image side by side.

Sources: hengyuan-hu/bottom-up-attention-vqa, tools/detection_features_converter.py; jnhwkim/ban-vqa, tools/
adaptive_detection_features_converter.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.arrays import StoredArray
from roicli.outputs.base import Layout, Record, Stored, not_ours
from roicli.outputs.byimage import ByGroup, vectors
from roicli.outputs.hdf5 import Hdf5
from roicli.outputs.spatial import spatial_vectors
from roicli.regions import Column, Names


class _Butd(Hdf5):
    """What both have: beside them lies a JSON object, image id to position, under the name that loaders expect."""

    def beside(self, output: Path, record: Record) -> dict[Path, Callable[[], Iterator[str]]]:
        """See `OutputFormat`."""

        def text() -> Iterator[str]:
            images = ByGroup.of(record.image_ids).groups.tolist()
            yield json.dumps({record.image_ids.names[image]: number for number, image in enumerate(images)})

        return {output.with_name(f"{output.stem}_imgid2idx.json"): text}


class ButdAdaptive(_Butd):
    """Any number of boxes an image, in one array: `pos_boxes` says where those of an image begin and end."""

    holds = "`image_features` (K, D), `image_bb` (K, 4), `spatial_features` (K, 6), `pos_boxes` (N, 2), `image_ids` (N)"

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`; rows are moved beside the others of their image."""
        rows = ByGroup.of(record.image_ids)
        columns: dict[str, Column] = {
            "image_bb": record.boxes[rows.order].astype(np.float32),
            "pos_boxes": np.stack([rows.starts, rows.starts + rows.counts], axis=1).astype(np.int32),
            "image_ids": record.image_ids[rows.order[rows.starts]],
        }
        if (spatial := spatial_vectors(record)) is not None:
            columns["spatial_features"] = spatial[rows.order]
        arranged = self._arrange(record.parameters, columns, "image_features", vectors(shape), dtype)
        return _spread(arranged, rows.starts[rows.number] + rows.rank, len(rows.order), shape, dtype)

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`; rows come image after image."""
        features, columns, parameters, sums = self._read(path, "image_features")
        ids, ends, boxes = (columns.get(name) for name in ("image_ids", "pos_boxes", "image_bb"))
        if not (isinstance(ids, Names) and isinstance(ends, np.ndarray) and isinstance(boxes, np.ndarray)):
            raise not_ours(str(path))
        index = np.repeat(ids.index, ends[:, 1] - ends[:, 0])
        record: dict[str, Column] = {"image_ids": Names(index, ids.names), "boxes": boxes.astype(np.float64)}
        return Stored(features, record, parameters, sums)


class ButdFixed(_Butd):
    """As many places for each image as the one with the most boxes has; `num_boxes` says how many are used."""

    plain = False
    holds = "as adaptive, but (N, B, D), (N, B, 4), (N, B, 6) padded with zeros, and `num_boxes` (N)"

    def layout(self, shape: tuple[int, ...], dtype: np.dtype[Any], record: Record) -> Layout:
        """See `OutputFormat`; places that no row takes hold zeros."""
        rows = ByGroup.of(record.image_ids)
        images, boxes = len(rows.counts), int(rows.counts.max(initial=0))
        places = rows.number * boxes + rows.rank

        def spread(values: NDArray[Any]) -> NDArray[Any]:
            spread = np.zeros((images * boxes, values.shape[1]), np.float32)
            spread[places] = values
            return spread.reshape(images, boxes, values.shape[1])

        columns: dict[str, Column] = {
            "image_bb": spread(record.boxes),
            "num_boxes": rows.counts.astype(np.int32),
            "image_ids": record.image_ids[rows.order[rows.starts]],
        }
        if (spatial := spatial_vectors(record)) is not None:
            columns["spatial_features"] = spread(spatial)
        whole = (images, boxes, *vectors(shape)[1:])
        arranged = self._arrange(record.parameters, columns, "image_features", whole, dtype, 2)
        return _spread(arranged, places, images * boxes, shape, dtype)

    def read(self, path: Path) -> Stored:
        """See `OutputFormat`; places that no row takes are not rows."""
        features, columns, parameters, sums = self._read(path, "image_features")
        ids, boxes, used = columns.get("image_ids"), columns.get("image_bb"), _used(columns, features)
        if not (isinstance(ids, Names) and isinstance(boxes, np.ndarray)):
            raise not_ours(str(path))
        rows = features._replace(shape=(int(used.sum()), *features.shape[2:]))
        whole = Names(np.repeat(ids.index, used.sum(axis=1)), ids.names)
        record: dict[str, Column] = {"image_ids": whole, "boxes": boxes[used].astype(np.float64)}
        return Stored(rows, record, parameters, None if sums is None else sums[used.reshape(-1)])

    def raw_blocks(self, path: Path, stored: Stored) -> Generator[NDArray[Any], None, None]:
        """See `OutputFormat`; yields the features without padding."""
        padded = self._read(path, "image_features")
        used, first = _used(padded.columns, padded.features), 0
        for block in super().raw_blocks(path, padded):
            yield block[used[first : first + len(block)]]
            first += len(block)


def _used(columns: Mapping[str, Column], features: StoredArray) -> NDArray[np.bool_]:
    """Return which places rows take, (N, B); FileError if the file does not say."""
    used = columns.get("num_boxes")
    if not isinstance(used, np.ndarray):
        raise not_ours(str(features.path))
    return np.arange(features.shape[1]) < used[:, None]


def _spread(
    layout: Layout, places: NDArray[np.int64], number: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Layout:
    """Give each row its place among so many."""
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    return layout._replace(starts=layout.offset + places * row_bytes, end=layout.offset + number * row_bytes)
