"""The weights with which a reference really read its map, solved for: a bin is linear in its cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.adjoint import scatter
from roicli.pooling.operators import find
from roicli.pooling.placement import Placement
from roicli.spec import PoolSpec

Array = NDArray[np.float64]
_ROUNDS = 60
# Of the spread: what solved weights leave at most. And cells of a bin that are kept along an axis.
_EXPLAINED, _SIDE = 1e-3, 32


@dataclass(frozen=True)
class Footprint:
    """What one RoI read of its map.

    Attributes
    ----------
    row : int
        The RoI.
    y, x : (float, float)
        Where it begins and ends along each axis, in cells, 0 at the center of the first one.
    bin : (int, int)
        The bin whose weights follow.
    corner : (int, int)
        The cell, row and column, where they begin.
    read, ours : tuple of tuple of float
        The weights that were solved for, rows by columns, and those of the options that were given.
    """

    row: int
    y: tuple[float, float]
    x: tuple[float, float]
    bin: tuple[int, int]
    corner: tuple[int, int]
    read: tuple[tuple[float, ...], ...]
    ours: tuple[tuple[float, ...], ...]


def solve_weights(feature_map: NDArray[np.floating], wanted: Array) -> tuple[Array, Array, float]:
    """Solve for the axis weights of one RoI: ``wanted[c] = Wy @ map[c] @ Wx.T``, by least squares in turns.

    Parameters
    ----------
    feature_map : (H, W, C)
        The map.
    wanted : (C, PH, PW)
        What was pooled of it.

    Returns
    -------
    (PH, H) array, (PW, W) array, float
        The weights along y and x, and the root mean square that they leave.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cells, wy, wx = rng.standard_normal((6, 5, 64)), np.eye(2, 6, 1), np.eye(3, 5)
    >>> y, x, left = solve_weights(cells, np.einsum("ph,hwc,qw->cpq", wy, cells, wx))
    >>> bool(np.allclose(y, wy, atol=1e-6) and np.allclose(x, wx, atol=1e-6) and left < 1e-6)
    True
    """
    cells: Array = feature_map.astype(np.float64)
    height, width, channels = cells.shape
    bins_y, bins_x = wanted.shape[1:]
    # A first guess from the whole: one weight a cell for each bin, of least norm, then summed over y.
    flat = np.linalg.lstsq(cells.reshape(-1, channels).T, wanted.reshape(channels, -1), rcond=1e-10)[0]
    whole = flat.reshape(height, width, bins_y, bins_x)
    x: Array = whole.sum(axis=(0, 2)).T / bins_y
    y: Array = np.zeros((bins_y, height))
    left = np.inf
    for _ in range(_ROUNDS):
        read = np.einsum("hwc,qw->cqh", cells, x).reshape(-1, height)
        y = np.linalg.lstsq(read, wanted.transpose(0, 2, 1).reshape(-1, bins_y), rcond=1e-10)[0].T
        total = y.sum(axis=1).mean() or 1.0
        y = y / total
        read = np.einsum("hwc,ph->cpw", cells, y).reshape(-1, width)
        x = np.linalg.lstsq(read, wanted.reshape(-1, bins_x), rcond=1e-10)[0].T
        before, left = left, float(np.sqrt(np.square(np.einsum("ph,hwc,qw->cpq", y, cells, x) - wanted).mean()))
        if left > 0.999 * before or left < 1e-9:
            break
    return y, x, left


def footprint(
    row: int, feature_map: NDArray[np.floating], wanted: Array, region: Placement, spec: PoolSpec
) -> Footprint | None:
    """Solve for what one RoI read, beside what some options read of it.

    Returns
    -------
    Footprint, optional
        None if no weights explain the reference: it was a maximum, or there are too few channels to tell.
    """
    y, x, left = solve_weights(feature_map, wanted)
    middle = len(y) // 2, len(x) // 2
    read = np.outer(y[middle[0]], x[middle[1]])
    if not left < _EXPLAINED * float(wanted.std()) or read.min() < -0.02 * read.max():
        return None
    ours = np.zeros_like(read)
    if spec.mode == "avg" and not find(spec.op).masks:
        one = np.zeros((1, 1, *wanted.shape[1:]))
        one[0, 0, middle[0], middle[1]] = 1
        here = Placement(np.zeros(1, np.intp), region.boxes, region.scale)
        ours = scatter(one, here, (1, 1, *read.shape), spec, np.dtype(np.float64))[0, 0]
    seen = np.argwhere((read > 0.01 * read.max()) | (ours > 0.01 * max(ours.max(), 1e-9)))
    (top, first), (bottom, last) = seen.min(axis=0).tolist(), seen.max(axis=0).tolist()
    window = slice(top, min(bottom, top + _SIDE - 1) + 1), slice(first, min(last, first + _SIDE - 1) + 1)
    grids = (tuple(tuple(map(float, line)) for line in grid[window].round(6).tolist()) for grid in (read, ours))
    return Footprint(row, _ends(y), _ends(x), middle, (top, first), *grids)


def _ends(weights: Array) -> tuple[float, float]:
    """Return begin and end of the bins along an axis, from the line through their centers."""
    total = weights.sum(axis=1)
    centers = weights @ np.arange(weights.shape[1]) / np.where(total, total, 1)
    number = np.arange(len(weights)) + 0.5
    step, start = np.polyfit(number, centers, 1) if len(weights) > 1 else (0.0, float(centers[0]))
    return float(start), float(start + len(weights) * step)
