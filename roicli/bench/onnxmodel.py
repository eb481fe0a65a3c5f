"""An ONNX model of one RoiAlign node, written as the bytes that protobuf would make: no onnx package is needed.

Field numbers are those of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct

from roicli.spec import PoolSpec

Field = tuple[int, float | str | bytes]

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_ATTRIBUTE = {float: (2, 1), int: (3, 2), str: (4, 3)}  # field of the value, AttributeProto.AttributeType
_IR_VERSION, _OPSET = 8, 16  # the first opset with coordinate_transformation_mode


def roi_align_model(spec: PoolSpec) -> bytes:
    """Return a model with the inputs X (N, C, H, W), rois (K, 4), batch_indices (K,) and the output Y."""
    attributes = {
        "coordinate_transformation_mode": "half_pixel" if spec.aligned else "output_half_pixel",
        "mode": spec.mode,
        "output_height": spec.output_size[0],
        "output_width": spec.output_size[1],
        "sampling_ratio": max(spec.sampling_ratio, 0),
        "spatial_scale": spec.spatial_scale,
    }
    inputs = {"X": _FLOAT, "rois": _FLOAT, "batch_indices": _INT64}
    node: list[Field] = [(1, name) for name in inputs]
    node += [(2, "Y"), (4, "RoiAlign")]
    node += [(5, _attribute(name, value)) for name, value in attributes.items()]
    graph: list[Field] = [(1, _message(*node)), (2, "roi_align")]
    graph += [(11, _value_info(name, dtype)) for name, dtype in inputs.items()]
    graph += [(12, _value_info("Y", _FLOAT))]
    return _message((1, _IR_VERSION), (7, _message(*graph)), (8, _message((2, _OPSET))))


def _attribute(name: str, value: float | str) -> bytes:
    field, kind = _ATTRIBUTE[type(value)]
    return _message((1, name), (field, value), (20, kind))


def _value_info(name: str, dtype: int) -> bytes:
    return _message((1, name), (2, _message((1, _message((1, dtype))))))


def _message(*fields: Field) -> bytes:
    """Encode fields by number: whole numbers as varints, floats in 32 bits, all else by its length."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += _varint(number << 3) + _varint(value)
        elif isinstance(value, float):
            encoded += _varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            data = value.encode() if isinstance(value, str) else value
            encoded += _varint(number << 3 | 2) + _varint(len(data)) + data
    return encoded


def _varint(number: int) -> bytes:
    """Encode seven bits a byte, the lowest first; the top bit says that more follow.

    Examples
    --------
    >>> _varint(300).hex()
    'ac02'
    """
    groups = [number & 0x7F]
    while number := number >> 7:
        groups[-1] |= 0x80
        groups.append(number & 0x7F)
    return bytes(groups)
