"""A trace for programs: JSON with everything that the table shows, in full precision."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from roicli.jobs.trace import Traced
from roicli.pooling.bintrace import BinTrace

_SAMPLES = ("iy", "ix", "y", "x", "rows", "columns", "weights", "values", "interpolated", "in_range", "clamped")


def as_json(traced: Traced) -> str:
    """Return the JSON document: y first in pairs, neighbors row by row, NaN and infinities as strings."""
    document = {
        "features": traced.features,
        "image_id": traced.image_id,
        "roi": traced.origin.words,
        "row": traced.origin.row,
        "box_id": traced.origin.box_id,
        "given_box": traced.given_box,
        "unit": traced.unit,
        **asdict(traced.steps),
        **({"level": traced.level} if traced.level else {}),
        "traces": [_trace_as_dict(trace) for trace in traced.traces],
    }
    return json.dumps(_plain(document), indent=1, allow_nan=False) + "\n"


def _trace_as_dict(trace: BinTrace) -> dict[str, Any]:
    rows, columns, weights = trace.footprint()
    return {
        "spec": asdict(trace.spec)
        | {"spatial_scale": trace.scale[0] if trace.scale[0] == trace.scale[1] else trace.scale},
        "box": trace.box,
        "shape": trace.shape,
        "channel": trace.channel,
        "bin": trace.bin,
        **({"angle": trace.angle} if trace.angle else {}),
        "roi": trace.roi,
        "bin_rows": trace.bin_rows,
        "bin_columns": trace.bin_columns,
        "grid": trace.grid,
        "samples": {name: getattr(trace, name) for name in _SAMPLES}
        | ({} if trace.shares is None else {"shares": trace.shares}),
        "sum": trace.total,
        "count": trace.count,
        "result": trace.result,
        "align_value": trace.engine_value,
        "difference": trace.difference,
        "best": trace.best,
        "pooled": trace.pooled,
        "footprint": {"rows": rows, "columns": columns, "weights": weights},
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
