"""Maps whose integers are the bits of floats that NumPy has no dtype for."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError, UsageError
from roicli.protocols import FeatureSource, MapInfo
from roicli.sources.composed import WrappedSource
from roicli.sources.values import ENCODINGS, Encoding

# What integers may be bits of.
MapDtype = Literal["bfloat16", "float16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]
MAP_DTYPES = get_args(MapDtype)


# Bits of bfloat16 between 2**-30 and 2**12, without their sign: hardly any number of a feature map lies outside.
_BFLOAT16 = (97 << 7, 140 << 7)


def are_bits(values: NDArray[Any]) -> bool:
    """Tell whether 16-bit integers are the bits of bfloat16: of both signs, and bunched where usual numbers are.

    Integers that count or measure would fill the gaps: below 12,416 or between 17,920 and 45,184.
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize != 2:
        return False
    bits = values.astype(np.uint16).ravel()
    bits = bits[bits & 0x7FFF != 0]
    size = bits & 0x7FFF
    negative = float((bits >> 15).mean()) if len(bits) else 0.0
    usual = ((size >= _BFLOAT16[0]) & (size < _BFLOAT16[1])).mean() if len(bits) else 0.0
    return bool(usual > 0.999 and 0.02 < negative < 0.98)


class RetypedSource(WrappedSource):
    """The maps of a source whose integers are read as bits.

    `source`: maps of integers as wide as the dtype.
    `dtype`: one of `MAP_DTYPES`.
    """

    def __init__(self, source: FeatureSource, dtype: str) -> None:
        if dtype not in MAP_DTYPES:
            raise UsageError(f"map dtype {dtype!r} is not known", f"Use one of {', '.join(MAP_DTYPES)}.")
        super().__init__(source)
        self._dtype = dtype
        self._encoding: Encoding | None = ENCODINGS.get(dtype)

    def info(self, index: int) -> MapInfo:
        """Shape of map `index`, and the dtype that its bits are read as."""
        info = super().info(index)
        width = self._encoding.stored.itemsize if self._encoding else 2
        if info.dtype.kind not in "iu" or info.dtype.itemsize != width:
            raise FeatureError(
                f"{info.where} has dtype {info.dtype}: the bits of {self._dtype} are integers of {8 * width} bits",
                "Leave `map_dtype` out; it is for integers only.",
            )
        return info._replace(dtype=self._encoding.widened if self._encoding else np.dtype("f2"))

    def read(self, index: int) -> NDArray[Any]:
        """Map `index` as (C, H, W)."""
        self.info(index)
        bits = super().read(index)
        if self._encoding:
            return self._encoding.decode(bits)
        return bits.astype(np.uint16, order="K").view(np.float16)
