"""Feature maps and boxes in files of every format that is read by ranges."""

import json

import h5py
import numpy as np

SHAPE = (32, 40, 50)
WANTED = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12)


def write_npy(path, maps):
    np.save(path, np.stack([*maps.values()]))


def write_npz(path, maps):
    np.savez(path, **maps)


def write_safetensors(path, maps):
    header, start = {}, 0
    for name, array in maps.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, start := start + array.nbytes]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in maps.values()))


def write_packed(path, maps):
    np.savez_compressed(path, **maps)


def write_hdf5(path, maps):
    with h5py.File(path, "w") as file:
        for name, array in maps.items():
            file.create_dataset(name, data=array)


def write_chunks(path, maps):
    with h5py.File(path, "w") as file:
        for name, array in maps.items():
            file.create_dataset(name, data=array, chunks=(8, 20, 50), compression="gzip", compression_opts=1)


def write_filtered(path, maps):
    with h5py.File(path, "w") as file:
        for name, array in maps.items():
            file.create_dataset(name, data=array, chunks=(8, 20, 50), compression="lzf")


FORMATS = {
    "maps.npy": write_npy,
    "maps.npz": write_npz,
    "packed.npz": write_packed,
    "maps.safetensors": write_safetensors,
    "maps.h5": write_hdf5,
    "chunks.h5": write_chunks,
    "filtered.h5": write_filtered,
}


def make_maps():
    random = np.random.default_rng(0)
    return {f"im{number}": random.standard_normal(SHAPE, np.float32) for number in range(14)}


def write_boxes(path, images, counted):
    """Write boxes of images, by number or by name."""
    rows = [{"image_id": number if counted else f"im{number}", "bbox": [8, 16, 300, 400]} for number in images]
    path.write_text(json.dumps(rows))
