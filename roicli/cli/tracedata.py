"""A trace for programs: JSON with everything that the table shows, CSV with the samples, both in full precision."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from roicli.jobs.trace import Traced
from roicli.pooling.bintrace import BinTrace


def as_text(traced: Traced, *, as_json: bool) -> str:
    """Return the JSON document, or the CSV."""
    return json.dumps(_plain(as_dict(traced)), indent=1, allow_nan=False) + "\n" if as_json else _as_csv(traced)


def as_dict(traced: Traced) -> dict[str, Any]:
    """Return everything as plain values, y first in pairs, neighbours row by row."""
    return {
        "features": traced.features,
        "image_id": traced.image_id,
        "roi": traced.origin.words,
        "row": traced.origin.row,
        "box_id": traced.origin.box_id,
        "given_box": traced.given_box,
        "unit": traced.unit,
        "traces": [_trace_as_dict(trace) for trace in traced.traces],
    }


def _trace_as_dict(trace: BinTrace) -> dict[str, Any]:
    rows, columns, weights = trace.footprint()
    arrays = {
        name: getattr(trace, name).tolist()
        for name in (
            "iy",
            "ix",
            "y",
            "x",
            "rows",
            "columns",
            "weights",
            "values",
            "interpolated",
            "in_range",
            "clamped",
        )
    }
    return {
        "spec": asdict(trace.spec) | {"spatial_scale": trace.scale[0]},
        "box": trace.box,
        "shape": trace.shape,
        "channel": trace.channel,
        "bin": trace.bin,
        "roi": trace.roi,
        "bin_rows": trace.bin_rows.tolist(),
        "bin_columns": trace.bin_columns.tolist(),
        "grid": trace.grid,
        "samples": arrays,
        "sum": trace.total,
        "count": trace.count,
        "result": trace.result,
        "align_value": trace.engine_value,
        "difference": trace.difference,
        "best": trace.best,
        "pooled": trace.pooled.tolist(),
        "footprint": {"rows": rows.tolist(), "columns": columns.tolist(), "weights": weights.tolist()},
    }


def _as_csv(traced: Traced) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    corners = ("upper_left", "upper_right", "lower_left", "lower_right")
    lines.writerow(
        [
            *("trace", "iy", "ix", "y", "x", "row_low", "row_high", "column_low", "column_high"),
            *(f"weight_{corner}" for corner in corners),
            *(f"value_{corner}" for corner in corners),
            *("interpolated", "in_range", "clamped"),
        ]
    )
    for number, trace in enumerate(traced.traces):
        for at in range(trace.count):
            lines.writerow(
                [
                    *(
                        number,
                        trace.iy[at],
                        trace.ix[at],
                        trace.y[at],
                        trace.x[at],
                        *trace.rows[at],
                        *trace.columns[at],
                    ),
                    *(*trace.weights[at], *trace.values[at], trace.interpolated[at]),
                    *(int(trace.in_range[at]), int(trace.clamped[at])),
                ]
            )
    return text.getvalue()


def _plain(value: Any) -> Any:
    """Make a value what JSON can hold: NaN and infinities, which it lacks, as strings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
