"""Where boxes were, if no way to take them is right: scale and offset along both axes, solved for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from roicli.jobs.candidates import Way
from roicli.jobs.evidence import Evidence
from roicli.jobs.geometry import Located
from roicli.pooling.placement import Placement, place
from roicli.pooling.sampling import in_map
from roicli.spec import PoolSpec

Array = NDArray[np.float64]
_FACTORS = 2.0 ** (np.arange(-12, 13) / 4)
# Offsets in cells at the scale that was given, and factors of it without an offset, that are all tried.
_OFFSETS, _FINE = np.arange(-4, 4.1, 0.5), 2.0 ** (np.arange(-16, 17) / 16)
# Steps of Gauss-Newton, from each start and for each convention; and how many conventions it is done for.
_FIRST, _STEPS, _REFINED = 6, 16, 8


def moved(way: Way, at: Array) -> Way:
    """Return a way whose scale along y and x is multiplied by two numbers, after boxes moved by two, in pixels."""

    def put(here: Located, numbers: Array) -> Placement:
        return _moved(way.put(here, numbers), at)

    words = [way.words] if way.words else []
    options = dict(way.options)
    if (at[:2] != 1).any() and "spatial_scale" in options:
        right = np.broadcast_to(options["spatial_scale"], 2)
        y, x = (right * at[:2]).tolist()
        options["spatial_scale"] = y if x == y else (y, x)
        words.append("spatial scale " + ", ".join(dict.fromkeys((f"{y:.6g}", f"{x:.6g}"))))
    elif (at[:2] != 1).any():
        words.append(f"scale times {at[0]:.6g}, {at[1]:.6g} (y, x)")
    if at[2:].any():
        words.append(f"boxes moved by {at[3]:+.4g}, {at[2]:+.4g} pixels (x, y)")
    return Way("; ".join(words), way.cost + 2, put, options)


def _moved(before: Placement, at: Array) -> Placement:
    ratio = before.scale
    return place(before.map_index, before.boxes + at[[3, 2, 3, 2]], np.broadcast_to(ratio * at[:2], ratio.shape))


def _cells(before: Placement) -> Array:
    """Return the pixels of a cell along y and x."""
    ratio = before.scale[0]
    return np.asarray(1 / ratio)


def starts(evidence: Evidence, placement: Placement, number: int = 3) -> Iterator[Array]:
    """Yield where means of RoIs are most like the reference: factors and offsets in pixels, the best of many."""
    maps = {index: _sums(one) for index, one in evidence.maps.items()}
    wanted = evidence.wanted if evidence.mean else evidence.wanted.mean(axis=(2, 3))
    boxes = in_map(placement.boxes, placement.scale)
    area = np.abs((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    inside = np.flatnonzero(area >= np.median(area)).tolist()  # the mean of a small one is found anywhere
    wanted = wanted - wanted[inside].mean()
    height, width = size = evidence.maps[int(placement.map_index[inside[0]])].shape[:2]
    inside = [row for row in inside if evidence.maps[int(placement.map_index[row])].shape[:2] == size]
    dy, dx = (np.arange(-length, length + 1) for length in (height, width))
    found: list[tuple[float, float, int, int]] = []
    for factor in _FACTORS:
        ends = boxes * factor
        if (ends[inside, 2:] - ends[inside, :2] > [width, height]).any(axis=1).all():
            continue
        first, second, shared = np.zeros((3, len(dy), len(dx)))
        for row in inside:
            total = maps[int(placement.map_index[row])]
            y = [_clip(ends[row, side] + 0.5 + dy, height, side) for side in (1, 3)]
            x = [_clip(ends[row, side] + 0.5 + dx, width, side) for side in (0, 2)]
            mean = total[y[1]][:, x[1]] - total[y[0]][:, x[1]] - total[y[1]][:, x[0]] + total[y[0]][:, x[0]]
            mean /= np.maximum((y[1] - y[0])[:, None] * (x[1] - x[0]), 1)[:, :, None]
            first += mean.sum(axis=2)
            second += np.square(mean).sum(axis=2)
            shared += mean @ wanted[row]
        length = np.sqrt(np.maximum(second - np.square(first) / (len(inside) * wanted.shape[1]), 1e-12))
        likeness = shared / length
        for flat in np.argsort(-likeness, axis=None)[:2].tolist():
            y_at, x_at = np.unravel_index(flat, likeness.shape)
            found.append((-float(likeness[y_at, x_at]), float(factor), int(dy[y_at]), int(dx[x_at])))
    for _, factor, y_cells, x_cells in sorted(found)[:number]:
        yield np.array([factor, factor, *(_cells(placement) / factor * [y_cells, x_cells])])


def _sums(feature_map: NDArray[np.floating]) -> Array:
    total: Array = np.zeros((feature_map.shape[0] + 1, feature_map.shape[1] + 1, feature_map.shape[2]))
    total[1:, 1:] = feature_map.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    return total


def _clip(edge: Array, length: int, side: int) -> NDArray[np.intp]:
    """Return the first cell of ranges, or for the sides 2 and 3 the one after the last, on the map."""
    last = int(side > 1)
    return np.clip((np.ceil if last else np.floor)(edge), last, length - 1 + last).astype(np.intp)


def around(off: Callable[[Array], Array], cells: Array) -> Iterator[Array]:
    """Yield the best of many offsets at the scale that was given, and of many factors without an offset."""
    offsets = [[1.0, 1.0, y, x] for y in _OFFSETS * cells[0] for x in _OFFSETS * cells[1]]
    for every in (np.array(offsets), np.array([[y, x, 0.0, 0.0] for y in _FINE for x in _FINE])):
        yield every[int(np.square(off(every)).sum(axis=1).argmin())]


def solve(off: Callable[[Array], Array], start: Array, cells: Array, most: int, first: int = 0) -> tuple[Array, float]:
    """Fit factors and offsets by damped Gauss-Newton.

    Parameters
    ----------
    off : callable
        What several factors and offsets (n, 4) leave, as a vector each: (n, ...).
    start : (4,) float64
        Where to begin: factors along y and x, offsets in pixels.
    cells : (2,) float64
        Pixels of a cell along y and x.
    most : int
        Steps.
    first : int
        Of the four numbers, the first one that is fitted: 2 leaves the factors as they are.

    Returns
    -------
    (4,) float64, float
        The best, and the mean square that it leaves.
    """
    at, damping = start.copy(), 1e-3
    left = off(at[None])[0]
    steps = np.array([1e-4, 1e-4, *(0.01 * cells)])
    for _ in range(most):
        slopes = (off(at + np.diag(steps)[first:]) - left) / steps[first:, None]
        normal = slopes @ slopes.T
        better = False
        for _ in range(4):
            change = np.zeros(4)
            change[first:] = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), -slopes @ left, rcond=None)[0]
            change = np.clip(change, [-0.3, -0.3, *(-2 * cells)], [0.3, 0.3, *(2 * cells)])
            tried = np.array([*np.clip(at[:2] + change[:2], 0.02, 50), *(at + change)[2:]])
            new = off(tried[None])[0]
            if better := bool(new @ new < left @ left):
                break
            damping *= 10
        if not better:
            break
        done = left @ left - new @ new < 1e-9 * (left @ left)
        at, left, damping = tried, new, damping / 10
        if done:
            break
    return at, float(left @ left) / max(left.size, 1)


def snapped(at: Array, ratio: Array) -> Iterator[Array]:
    """Yield numbers near a solution that somebody would have written, the plainest first."""
    whole = np.array([_plain(one * factor) / one for one, factor in zip(ratio, at[:2], strict=True)])
    for factors in (np.ones(2), whole, at[:2]):
        for grain in (1.0, 0.5, 0.25):
            offsets = np.rint(at[2:] / grain) * grain
            yield np.array([*factors, *offsets])


def _plain(ratio: float) -> float:
    """Return one over a whole number, or three digits, whichever is near."""
    stride = round(1 / ratio)
    return 1 / stride if stride and abs(1 / stride - ratio) < 2e-3 * ratio else float(f"{ratio:.3g}")


def solutions(
    evidence: Evidence, here: Located, numbers: Array, bases: list[Way], quick: list[PoolSpec], every: list[PoolSpec]
) -> Iterator[tuple[float, Way, PoolSpec]]:
    """Yield what boxes that were scaled and moved leave: the mean square, the way, what was computed."""
    found: list[tuple[float, Way, Array, PoolSpec]] = []
    for way in bases:
        before = way.put(here, numbers)
        cells = _cells(before)
        near_by = around(_misfit(evidence, way, here, numbers, quick[-1]), cells)
        for start in [np.array([1.0, 1.0, 0.0, 0.0]), *near_by, *starts(evidence, before)]:
            for spec in quick:
                at, left = solve(_misfit(evidence, way, here, numbers, spec), start, cells, _FIRST)
                found.append((left, way, at, spec))
    most = 1.05 * min(one[0] for one in found) + float(evidence.allowed.max()) ** 2
    _, way, at, spec = next(one for one in found if one[0] <= most)  # boxes as given before others that are like them
    before = way.put(here, numbers)
    cells = _cells(before)
    centers = (before.boxes[:, [1, 0]] + before.boxes[:, [3, 2]]).mean(axis=0) / 2
    tried: list[tuple[float, Array, PoolSpec]] = []
    for other in every:
        start = at + _shift(other, at, cells) - _shift(spec, at, cells)
        misfit = _misfit(evidence, way, here, numbers, other)
        if other.rule is not None and other.rule.end:
            start, _ = solve(misfit, start, cells, 2)
        off = misfit(start[None])[0]
        tried.append((float(off @ off) / max(off.size, 1), start, other))
    for group in _alike(tried, float(np.square(evidence.allowed).mean()))[:_REFINED]:
        _, start, first = group[0]
        misfit = _misfit(evidence, way, here, numbers, first)
        # At the scale as it should be first: with few values, factors lead astray.
        solved, left = solve(misfit, np.array([1, 1, *((centers + start[2:]) * start[:2] - centers)]), cells, _STEPS, 2)
        if left > np.square(evidence.allowed).mean():
            solved, left = min((solved, left), solve(misfit, start, cells, _STEPS), key=lambda one: one[1])
        for *_, other in group:
            at = solved + _shift(other, solved, cells) - _shift(first, solved, cells)
            misfit = _misfit(evidence, way, here, numbers, other)
            for plain in snapped(at, before.scale[0]):
                off = misfit(plain[None])[0]
                if off @ off <= 1.05 * left * off.size or (np.abs(off) <= evidence.allowed.ravel()).all():
                    at = plain
                    break
            else:
                off = misfit(at[None])[0]
            yield float(off @ off) / max(off.size, 1), moved(way, at), other


def _shift(spec: PoolSpec, at: Array, cells: Array) -> Array:
    """Return by how many pixels boxes are moved against the shift of a convention, as the last of four numbers."""
    before = spec.rule.before if spec.rule is not None else 0.0
    return np.array([0, 0, *(spec.aligned / 2 * cells / at[:2] - before)])


def _alike(tried: list[tuple[float, Array, PoolSpec]], least: float) -> list[list[tuple[float, Array, PoolSpec]]]:
    """Put together what leaves the same of boxes that were moved each by its own shift; the nearest first."""
    groups: list[list[tuple[float, Array, PoolSpec]]] = []
    for one in sorted(tried, key=lambda one: one[0]):
        if groups and one[0] <= 1.0001 * groups[-1][0][0] + least and (one[1][:2] == groups[-1][0][1][:2]).all():
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _misfit(evidence: Evidence, way: Way, here: Located, numbers: Array, spec: PoolSpec) -> Callable[[Array], Array]:
    before = way.put(here, numbers)

    def off(every: Array) -> Array:
        return evidence.off([_moved(before, at) for at in every], spec).reshape(len(every), -1)

    return off
