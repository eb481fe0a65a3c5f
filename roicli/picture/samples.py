"""Which sample points a panel shows, how large, and where they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.picture.canvas import Box
from roicli.picture.view import View
from roicli.pooling.trace import BinTrace

APART = 8  # pixels between samples, below which some are left out
FEW = 50  # samples that are all drawn, however dense
LEAST, MOST = 1.5, 5.0  # radius of a sample in pixels
GROWN = 1.4  # how much larger than the others the chosen one is
OTHERS_FROM = 10  # pixels of a cell from which the samples of other bins do not hide the map


@dataclass(frozen=True)
class Samples:
    """What one panel shows of the samples of a trace.

    Attributes
    ----------
    shown : (m,) intp
        Numbers of the samples of the traced bin that are drawn.
    seen : (n,) bool
        Which of its samples lie in view, drawn or not.
    one_in : int
        Of how many samples one is drawn.
    radius : float
        Radius of a sample of the traced bin in pixels.
    places : (n, 2)
        (x, y) in pixels of each sample of the traced bin, drawn or not.
    landings : (n, 2)
        (x, y) in pixels of where each of them is read: the mean place of its neighbours by their weights.
    others : (k, 2)
        (x, y) in pixels of the samples of other bins that are drawn.
    """

    shown: NDArray[np.intp]
    seen: NDArray[np.bool_]
    one_in: int
    radius: float
    places: NDArray[np.float64]
    landings: NDArray[np.float64]
    others: NDArray[np.float64]

    @classmethod
    def of(cls, trace: BinTrace, view: View) -> Samples:
        """Choose samples so that they do not run together; the maximum is always among them."""
        lines = (trace.sample_rows, trace.sample_columns)
        apart = [_apart(line, view) for line in lines]
        steps = [
            math.ceil(APART / max(each, APART / max(line.size, number, 1)))
            for each, line, number in zip(apart, lines, trace.grid, strict=True)
        ]
        traced = steps if trace.count > FEW else [1, 1]
        drawn = (trace.iy % traced[0] == 0) & (trace.ix % traced[1] == 0)
        if trace.best is not None:
            drawn[trace.best] = True
        seen = view.sees_rows(trace.y) & view.sees_columns(trace.x)
        sides = (trace.bin_rows[trace.bin[0]], trace.bin_columns[trace.bin[1]])
        room = [step * each for step, each in zip(traced, apart, strict=True)]
        room += [abs(float(stop) - float(start)) * view.cell for start, stop in sides]
        shares = trace.weights.reshape(-1, 2, 2).astype(np.float64)
        read = (shares.sum(axis=2) * trace.rows).sum(axis=1), (shares.sum(axis=1) * trace.columns).sum(axis=1)
        return cls(
            shown=np.flatnonzero(drawn & seen),
            seen=seen,
            one_in=traced[0] * traced[1],
            radius=min(max(LEAST, min(room) / 4), MOST),
            places=_pixels(trace.y, trace.x, view),
            landings=_pixels(*read, view),
            others=_others(trace, view, steps),
        )

    def size(self, number: int, point: int) -> float:
        """Radius of one sample: `point`, the chosen one, is larger."""
        return self.radius * (GROWN if number == point else 1)

    def box(self, number: int) -> Box:
        """Where one sample is drawn, though it be the chosen one."""
        (x, y), reach = self.places[number].tolist(), self.size(number, number) + 1
        return x - reach, y - reach, x + reach, y + reach

    def boxes(self) -> list[Box]:
        """Where the samples of the traced bin are drawn."""
        return [self.box(number) for number in self.shown.tolist()]


def _others(trace: BinTrace, view: View, steps: list[int]) -> NDArray[np.float64]:
    """Choose samples of other bins, and of bins where a step is longer than a bin."""
    if view.cell < OTHERS_FROM:
        return np.empty((0, 2))
    lines, seen, own = [], (view.sees_rows, view.sees_columns), []
    for line, step, sees, bin in zip((trace.sample_rows, trace.sample_columns), steps, seen, trace.bin, strict=True):
        each = max(1, step // max(line.shape[1], 1))
        kept = line[::each, ::step]
        number = np.repeat(np.arange(len(line))[::each], kept.shape[1])
        visible = sees(kept.ravel())
        lines.append(kept.ravel()[visible])
        own.append(number[visible] == bin)
    of_others = ~(own[0][:, None] & own[1]).ravel()
    y, x = (axis.ravel()[of_others] for axis in np.meshgrid(*lines, indexing="ij"))
    return _pixels(y, x, view)


def _pixels(y: NDArray[Any], x: NDArray[Any], view: View) -> NDArray[np.float64]:
    return np.array([view.at(*place) for place in zip(y.tolist(), x.tolist(), strict=True)]).reshape(-1, 2)


def _apart(coordinates: NDArray[Any], view: View) -> float:
    """Pixels from one sample to the next along an axis; for RoIPool, from cell to cell."""
    if coordinates.size < 2:
        return float(view.cell)
    return abs(float(coordinates.flat[-1]) - float(coordinates.flat[0])) / (coordinates.size - 1) * view.cell
