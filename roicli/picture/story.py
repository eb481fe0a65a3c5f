"""A trace in words: the arithmetic that makes one sample, and what the samples add up to."""

from __future__ import annotations

import numpy as np

from roicli.errors import UsageError
from roicli.pooling.bintrace import BinTrace
from roicli.words import count

TIMES = "\N{MULTIPLICATION SIGN}"


def short(value: float, digits: int = 3) -> str:
    """Write a number in few characters: 1e-8 for 1e-08, 0 for -0.

    Examples
    --------
    >>> short(1e-8), short(0.00497395), short(-0.0)
    ('1e-8', '0.00497', '0')
    """
    mantissa, mark, exponent = f"{value + 0.0:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else mantissa


def coordinate(value: float) -> str:
    """Write a coordinate with four decimals, as long as that means something.

    Examples
    --------
    >>> coordinate(0.74089908), coordinate(-1e30)
    ('0.7409', '-1e+30')
    """
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.7g}"


def coordinate_arithmetic(trace: BinTrace, number: int, times: str = TIMES) -> tuple[str, str]:
    """Return how the y and the x of one sample come about: begin of the bin, half steps, size over samples.

    Where samples do not stand in rows and columns along the axes, there is only where it lies.

    Examples
    --------
    >>> from roicli import trace_bin
    >>> coordinate_arithmetic(trace_bin(np.ones((1, 4, 4)), [0, 0, 3, 2], 1, sampling_ratio=2), 1, "x")
    ('0.5000 = 0.0000 + (0 + 0.5) x 2.0000 / 2', '2.2500 = 0.0000 + (1 + 0.5) x 3.0000 / 2')
    """
    row, column = trace.bin
    if not trace.sample_rows.size:
        return coordinate(float(trace.y[number])), coordinate(float(trace.x[number]))
    lines = [
        f"{coordinate(float(at[number]))} = {coordinate(float(edges[0]))} + ({index[number]} + 0.5) {times} "
        f"{coordinate(float(edges[1] - edges[0]))} / {count}"
        for at, edges, index, count in (
            (trace.y, trace.bin_rows[row], trace.iy, trace.grid[0]),
            (trace.x, trace.bin_columns[column], trace.ix, trace.grid[1]),
        )
    ]
    return lines[0], lines[1]


def weight_arithmetic(trace: BinTrace, number: int, times: str = TIMES) -> list[str]:
    """Return how the four weights of one sample come about: upper left, upper right, lower left, lower right.

    Examples
    --------
    >>> from roicli import trace_bin
    >>> weight_arithmetic(trace_bin(np.ones((1, 4, 4)), [0, 0, 3, 2], 1, sampling_ratio=2), 1, "x")[1]
    '0.1250 = (1 - 0.5000) x 0.2500'
    """
    weights = trace.weights[number]
    y, x = (f"{weights[list(corners)].sum():.4f}" for corners in ((2, 3), (1, 3)))
    factors = ((f"(1 - {y})", f"(1 - {x})"), (f"(1 - {y})", x), (y, f"(1 - {x})"), (y, x))
    return [f"{weight:.4f} = {one} {times} {other}" for weight, (one, other) in zip(weights, factors, strict=True)]


def check_point(trace: BinTrace, point: int | None) -> None:
    """Check that a trace has the sample that was asked for."""
    if point is not None and trace.count and not 0 <= point < trace.count:
        raise UsageError(
            f"point {point} is not among the {count(trace.count, trace.operator.noun)} of this bin",
            f"Give 0 to {trace.count - 1}.",
        )


def chosen(trace: BinTrace, point: int | None) -> int:
    """Return the sample to explain: `point`, else the maximum, else the first that is in range."""
    if point is None:
        point = trace.best if trace.best is not None else int(np.argmax(trace.in_range)) if trace.count else 0
    return min(point, max(trace.count - 1, 0))


def so_far(trace: BinTrace, until: int) -> tuple[str, float]:
    """Return the name and the value of what the samples up to one of them give."""
    values = trace.interpolated[: until + 1]
    with np.errstate(invalid="ignore"):  # inf - inf
        if trace.spec.mode == "max":
            return "Maximum", trace.operator.combine(values, trace.spec)[0]
        return "Sum", trace.sum_until(until + 1)


def story(trace: BinTrace, point: int, until: int, first: BinTrace | None = None) -> list[tuple[str, str]]:
    """Return what one point reads and what the samples up to `until` give, in two columns of as many lines always.

    The last line compares the result with that of another trace, the `first`.
    """
    if not trace.count:
        return [(f"This bin has no {trace.operator.noun}s: its value is 0.", "")]
    value = short(trace.interpolated[point], 5)
    if not trace.operator.interpolates:
        place = f"row {trace.rows[point, 0]}, column {trace.columns[point, 0]}"
        if trace.shares is not None:
            value = f"{short(trace.shares[point])} {TIMES} {value}"
        lines = [(f"{trace.operator.noun.capitalize()} {point}: {place}", value)]
    else:
        y, x = coordinate_arithmetic(trace, point)
        lines = [(f"Sample {trace.iy[point]},{trace.ix[point]}", ""), (f"y {y}", ""), (f"x {x}", "")]
        if trace.in_range[point]:
            lines += [
                (
                    f"{weight:.4f} {TIMES} {short(read, 5)}",
                    f"row {trace.rows[point, corner // 2]}, column {trace.columns[point, corner % 2]}",
                )
                for corner, (weight, read) in enumerate(zip(trace.weights[point], trace.values[point], strict=True))
            ]
            lines += [(f"= {value}", "")]
        else:
            lines += [("out of range: counts as 0", "")] + [("", "")] * 4
    name, value_so_far = so_far(trace, until)
    lines += [(f"{name} of {until + 1} of {trace.count}", short(value_so_far, 6))]
    done = until + 1 == trace.count
    lines.append(("Maximum" if trace.spec.mode == "max" else "Mean", short(trace.result, 6) if done else ""))
    if first is not None and first is not trace:
        lines.append(("less the first", short(trace.result - first.result, 6)))
    return lines
