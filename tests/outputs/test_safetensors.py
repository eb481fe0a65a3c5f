"""The .safetensors format."""

import json

import numpy as np
import pytest
from outputs.conformance import OutputConformance

from roicli.errors import FileError
from roicli.outputs.base import read_output
from roicli.outputs.safetensors import Safetensors

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U32": "<u4"}


def load(path):
    """Read a file as the description of the format says: tensors, and metadata."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    assert all(isinstance(text, str) for text in metadata.values())
    tensors, end = {}, 0
    for name, entry in header.items():
        first, stop = entry["data_offsets"]
        assert first == end
        end = stop
        values = np.frombuffer(data[8 + size :][first:stop], DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    assert len(data) == 8 + size + end
    return tensors, metadata


class TestSafetensors(OutputConformance):
    format, suffix = Safetensors(), ".safetensors"

    def features(self, path):
        return load(path)[0]["features"]

    def record(self, path):
        tensors, metadata = load(path)
        del tensors["features"], tensors["checksums"]
        columns = {name: values for name, values in tensors.items() if not name.endswith("_index")}
        for name in ("image_ids", "box_ids"):
            if name in metadata:
                columns[name] = np.array(json.loads(metadata[name]))[tensors[f"{name}_index"]]
        return columns, json.loads(metadata["parameters"])

    @pytest.mark.parametrize("cut", [4, 40, -1])
    def test_a_file_that_was_cut_short(self, tmp_path, cut):
        path = self.write(tmp_path, np.ones((4, 3), np.float32))
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(FileError):
            read_output(self.format, path)
