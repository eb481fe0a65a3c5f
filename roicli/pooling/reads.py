"""What one bin of one region reads of a map, as operators say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.pooling.sampling import FloatArray, IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Reads:
    """What one bin of one region reads of a map.

    All coordinates are in feature cells as samples are: coordinate 0 is the centre of the first cell, and cell i
    reaches from i - 0.5 to i + 0.5. Pairs and arrays of two are y first; n is the number of samples of the bin, in
    order of rows, then columns. If an operator reads whole cells, each cell of the bin is a sample at its centre.

    Attributes
    ----------
    grid : (int, int)
        Samples of one bin along y and x, in range or not.
    roi : tuple of float
        The region as it is pooled, xyxy.
    change : str
        Why that is not just the box times the spatial scale, in words.
    bin_rows, bin_columns : (PH, 2), (PW, 2)
        Where each bin of the region begins and ends, on the map or beyond it.
    sample_rows, sample_columns : (PH, ny), (PW, nx)
        Where the samples of all bins lie along y and x; no columns if the operator reads whole cells.
    y, x : (n,)
        Where each sample lies, before it is clamped.
    rows, columns : (n, 2) intp
        The two rows and the two columns that it lies between.
    weights : (n, 4)
        Weights of its four neighbours: upper left, upper right, lower left, lower right.
    in_range, clamped : (n,) bool
        Whether a sample counts, and whether it was moved onto the border of the map first.
    shares : (n,), optional
        How much each sample counts in the bin; by default the bin is their mean, or maximum.
    angle : float
        Degrees by which the region, with its bins, is turned counter-clockwise about its centre.
    """

    grid: tuple[int, int]
    roi: tuple[float, float, float, float]
    change: str
    bin_rows: FloatArray
    bin_columns: FloatArray
    sample_rows: FloatArray
    sample_columns: FloatArray
    y: FloatArray
    x: FloatArray
    rows: IntArray
    columns: IntArray
    weights: FloatArray
    in_range: NDArray[np.bool_]
    clamped: NDArray[np.bool_]
    shares: FloatArray | None = None
    angle: float = 0.0


class Axis(NamedTuple):
    """What one bin of one region reads along one axis, n samples; see `Reads` for the meaning."""

    edges: FloatArray  # (P, 2) where each bin of the region begins and ends
    samples: FloatArray  # (P, n) where the samples of all bins lie; (P, 0) if there are none to show
    at: FloatArray  # (n,) where those of this bin lie, before they are clamped
    cells: IntArray  # (n, 2) the two cells that each lies between
    weights: FloatArray  # (n, 2) their weights
    in_range: NDArray[np.bool_]  # (n,)
    clamped: NDArray[np.bool_]  # (n,)
    shares: FloatArray | None = None  # (n,) how much they count, if not alike


def crossed(y: Axis, x: Axis, roi: FloatArray, change: str = "") -> Reads:
    """Cross the samples along y with those along x, row by row, for an operator that treats the axes apart."""
    grid = len(y.at), len(x.at)
    iy, ix = (index.ravel() for index in np.indices(grid))
    in_range = y.in_range[iy] & x.in_range[ix]
    left, top, right, bottom = roi.tolist()
    return Reads(
        grid=grid,
        roi=(left, top, right, bottom),
        change=change,
        bin_rows=y.edges,
        bin_columns=x.edges,
        sample_rows=y.samples,
        sample_columns=x.samples,
        y=y.at[iy],
        x=x.at[ix],
        rows=y.cells[iy],
        columns=x.cells[ix],
        weights=(y.weights[iy][:, :, None] * x.weights[ix][:, None, :]).reshape(-1, 4),
        in_range=in_range,
        clamped=(y.clamped[iy] | x.clamped[ix]) & in_range,
        shares=None if y.shares is None or x.shares is None else y.shares[iy] * x.shares[ix],
    )
