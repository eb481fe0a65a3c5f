"""Values that are not stored as they are meant: bfloat16, float8, and integers with a scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roicli.errors import FeatureError
from roicli.protocols import StoredMap

# What NumPy makes of bfloat16 that it saves or loads without ml_dtypes.
VOID16 = np.dtype("V2")


class Encoding(NamedTuple):
    """A dtype that NumPy has not."""

    name: str  # as torch and safetensors call it
    stored: np.dtype[Any]  # integers of the same bits
    widened: np.dtype[Any]  # the narrowest dtype of NumPy that holds each value exactly

    def decode(self, bits: NDArray[Any]) -> NDArray[Any]:
        """Return the values of an array of their bits, in any order of axes."""
        if self.name == "bfloat16":
            # The upper half of a float32. Its byte order is that of the bits.
            wide = bits.astype(np.uint32, order="K")
            wide <<= 16
            return wide.view(np.float32)
        widened: NDArray[Any] = _float8(self.name)[bits]
        return widened


_BYTE, _HALF, _SINGLE = np.dtype("u1"), np.dtype("f2"), np.dtype("f4")
BFLOAT16 = Encoding("bfloat16", np.dtype("<u2"), _SINGLE)

# Exponent bits, exponent bias, and the code of infinity and NaN.
_FLOAT8 = {
    "float8_e4m3fn": (4, 7),
    "float8_e4m3fnuz": (4, 8),
    "float8_e5m2": (5, 15),
    "float8_e5m2fnuz": (5, 16),
}
ENCODINGS = {"bfloat16": BFLOAT16} | {name: Encoding(name, _BYTE, _HALF) for name in _FLOAT8}


@cache
def _float8(name: str) -> NDArray[np.float16]:
    """List the values of all 256 codes; float16 holds each exactly."""
    bits, bias = _FLOAT8[name]
    code = np.arange(256)
    exponent, mantissa = (code & 127) >> (7 - bits), code & (1 << (7 - bits)) - 1
    fraction = mantissa / (1 << (7 - bits))
    size = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    values = np.where(code < 128, size, -size)
    if name == "float8_e4m3fn":
        values[[127, 255]] = np.nan
    elif name == "float8_e5m2":
        values[[124, 252]] = np.inf, -np.inf
        values[[125, 126, 127, 253, 254, 255]] = np.nan
    else:  # one zero, and NaN in the place of the other
        values[128] = np.nan
    return values.astype(np.float16)


# What says how values are packed.
PACKED = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")


class Packing(NamedTuple):
    """Integers or small floats that stand for ``value * scale + offset``, as CF and netCDF have it."""

    # Attributes ``scale_factor`` and ``add_offset``
    scale: float = 1.0
    offset: float = 0.0
    # Attributes ``_FillValue`` and ``missing_value``: stored values that stand for none, and are read as NaN
    fills: tuple[float, ...] = ()

    def widened(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Float32 for up to 16 bits and for float32, otherwise float64."""
        return np.dtype("f4") if stored.itemsize <= 2 or stored == np.float32 else np.dtype("f8")

    def unpack(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values meant: computed in float64, item by item of the first axis to save memory."""
        out = np.empty(values.shape, self.widened(values.dtype))
        for target, item in zip(out, values, strict=True):
            target[...] = item.astype(np.float64) * self.scale + self.offset
            for fill in self.fills:
                target[item == fill] = np.nan
        return out


def packing_of(attributes: Mapping[str, NDArray[Any]], where: str, dtype: np.dtype[Any]) -> Packing | None:
    """Make a packing of the attributes of an array; None if they change no value.

    Raises FeatureError: an attribute is not one finite number, or says that integers are of another kind than their
    dtype.
    """
    if not attributes or dtype.kind not in "iuf":
        return None
    if str(np.asarray(attributes.get("_Unsigned", "false")).reshape(-1)[0]).strip("b'").lower() == "true":
        raise FeatureError(
            f"{where} has the attribute _Unsigned, which roicli does not read", "Write unsigned integers."
        )
    numbers: dict[str, Any] = {}
    for name in PACKED[:-1]:
        if name not in attributes:
            continue
        value = np.asarray(attributes[name])
        is_scale = name in ("scale_factor", "add_offset")
        if value.dtype.kind not in "iuf" or value.size != 1 or (is_scale and not np.isfinite(value).all()):
            raise FeatureError(
                f"{where} is packed by {name} = {str(attributes[name])[:80]}: expected one finite number",
                "Unpack the values, and write them as float16 or float32.",
            )
        numbers[name] = value.reshape(-1)[0].item()
    fills = {numbers[name] for name in ("_FillValue", "missing_value") if name in numbers}
    found = Packing(
        float(numbers.get("scale_factor", 1)),
        float(numbers.get("add_offset", 0)),
        tuple(fill for fill in fills if fill == fill),  # NaN is NaN already
    )
    return None if found == Packing() else found


def decoded(stored: StoredMap, encoding: Encoding | Packing | None) -> StoredMap:
    """Return a map whose values are decoded when they are loaded."""
    if encoding is None:
        return stored
    load: Callable[[], NDArray[Any]] = stored.load
    if isinstance(encoding, Packing):
        return stored._replace(dtype=encoding.widened(stored.dtype), load=lambda: encoding.unpack(load()))
    if stored.dtype == VOID16:
        return stored._replace(
            dtype=encoding.widened,
            load=lambda: encoding.decode(load().view(encoding.stored)),
            note="two bytes of no dtype of NumPy (V2), read as bfloat16",
        )
    return stored._replace(dtype=encoding.widened, load=lambda: encoding.decode(load()))
