"""`roicli info`: what any file that roicli reads or writes is, without reading a feature."""

import json

import h5py
import numpy as np
import pytest
from driving import Silent, run

from roicli import child
from roicli.errors import RoicliError
from roicli.jobs.align import AlignJob, align
from roicli.jobs.info import info
from roicli.jobs.shards import Shard
from roicli.outputs import find_format
from roicli.outputs.base import read_output
from roicli.sources.hdf5 import inside
from roicli.sources.inventory import Inventory
from roicli.spec import PoolSpec

RNG = np.random.default_rng(0)


def maps(*shapes, dtype=np.float32):
    return {f"img{n}": RNG.standard_normal(shape).astype(dtype) for n, shape in enumerate(shapes)}


def kinds(stock: Inventory):
    return {(*alike.kind, alike.count, tuple(alike.names)) for alike in stock.kinds}


def test_hdf5_maps(tmp_path):
    with h5py.File(tmp_path / "feats.h5", "w") as file:
        for name, feature_map in maps((3, 4, 5), (3, 4, 5), (3, 6, 5)).items():
            file[name] = feature_map
    found = info(str(tmp_path / "feats.h5"))
    assert kinds(found.arrays) == {
        ((3, 4, 5), "float32", "contiguous", 2, ("img0", "img1")),
        ((3, 6, 5), "float32", "contiguous", 1, ("img2",)),
    }
    assert found.arrays.kinds[0].stored == 2 * 3 * 4 * 5 * 4
    assert found.bytes == (tmp_path / "feats.h5").stat().st_size
    assert (found.maps.count, found.maps.ids, found.maps.labelled) == (3, ("img0", "img1", "img2"), True)
    assert found.maps.kinds == (((3, 4, 5), "float32", 2), ((3, 6, 5), "float32", 1))
    assert (found.maps.channels, found.maps.faults, found.parameters, found.boxes) == ((3,), (), {}, None)


def test_hdf5_storage(tmp_path):
    """Chunks, filters and links; what is not pooled is described all the same."""
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file.create_dataset("a/zipped", data=np.zeros((20, 30)), chunks=(10, 30), compression="gzip", shuffle=True)
        file.create_dataset("lzf", data=np.zeros((20, 30)), chunks=(10, 30), compression="lzf")
        file["words"], file["empty"], file["type"] = ["a", "b"], h5py.Empty("f4"), np.dtype("f8")
        file["nowhere"], file["outside"], file["a/round"] = (
            h5py.SoftLink("/nix"), h5py.ExternalLink("nix.h5", "/"), file["/"],
        )  # fmt: skip
        layout = h5py.VirtualLayout((20, 30), "f8")
        layout[:] = h5py.VirtualSource(".", "lzf", (20, 30))
        file.create_virtual_dataset("virtual", layout)
    found = info(str(tmp_path / "odd.h5"))
    assert kinds(found.arrays) == {
        ((20, 30), "float64", "chunks (10, 30), shuffle, gzip 4", 1, ("a/zipped",)),
        ((20, 30), "float64", "chunks (10, 30), lzf", 1, ("lzf",)),
        ((20, 30), "float64", "virtual, from 1 file", 1, ("virtual",)),
        ((2,), "str", "contiguous", 1, ("words",)),
        ((), "float32", "contiguous", 1, ("empty",)),
    }
    assert found.maps is None
    assert "holds no feature maps" in found.not_maps


def test_many_datasets_are_looked_at_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(inside, "LOOKED_AT", 30)
    child.stop()  # the next is forked from here
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for n in range(100):
            file[f"maps/{n}"] = np.zeros((2, 3, 4), np.float32)
    found = info(str(tmp_path / "many.h5"))
    assert (found.arrays.arrays, found.arrays.looked_at) == (100, 29)  # the group is looked at too
    assert found.maps.count == 100
    child.stop()


@pytest.mark.parametrize(("save", "storage"), [(np.savez, "contiguous"), (np.savez_compressed, "deflate")])
def test_npz(tmp_path, save, storage):
    # An array called parameters does not make an output.
    save(tmp_path / "feats.npz", **maps((3, 4, 5), (3, 4, 5)), parameters=np.array("four"))
    found = info(str(tmp_path / "feats.npz"))
    assert kinds(found.arrays) == {
        ((3, 4, 5), "float32", storage, 2, ("img0", "img1")),
        ((), "<U4", storage, 1, ("parameters",)),
    }
    assert (found.maps.count, found.parameters) == (2, {})


def test_npy_folder_and_pattern(tmp_path):
    (tmp_path / "feats").mkdir()
    for name, feature_map in maps((3, 4, 5), (3, 9, 5), (2, 4, 5)).items():
        np.save(tmp_path / "feats" / f"{name}.npy", feature_map)
    np.save(tmp_path / "feats" / "img3.npy", np.zeros(7))
    for name in ("feats", "feats/*.npy"):
        if "*" in name:
            (tmp_path / "feats" / "img3.npy").unlink()
        found = info(str(tmp_path / name))
        number = 3 if "*" in name else 4
        assert (found.files, found.maps.count, found.maps.channels) == (number, number, (2, 3))
        assert len(found.maps.faults) == number - 3
    one = info(str(tmp_path / "feats" / "img1.npy"))
    assert (one.maps.ids, one.maps.kinds) == (("img1",), (((3, 9, 5), "float32", 1),))
    np.save(tmp_path / "stack.npy", np.zeros((6, 3, 4, 5), np.float16))
    stack = info(str(tmp_path / "stack.npy"))
    assert (stack.maps.count, stack.maps.labelled, stack.maps.kinds) == (6, False, (((3, 4, 5), "float16", 6),))


BOXES = np.array([[100.0, 50, 20, 30], [10, 5, 60, 70], [1, 2, 3, 4]])  # as xyxy, the first is inverted


def test_boxes(tmp_path):
    np.save(tmp_path / "boxes.npy", np.insert(BOXES, 0, [4, 4, 2], axis=1))
    found = info(str(tmp_path / "boxes.npy")).boxes
    assert (found.count, found.images, found.per_image, found.images_by) == (3, 2, (1, 1.5, 2), "batch index")
    assert (found.box_format, found.inverted) == ("xyxy", {"xyxy": 1, "xywh": 0})
    assert found.extent == (1, 2, 60, 70)
    assert "boxes taken as xyxy" in found.assumed[0]
    results = [{"image_id": n % 2, "bbox": box} for n, box in enumerate(BOXES.tolist())]
    (tmp_path / "boxes.json").write_text(json.dumps(results))
    found = info(str(tmp_path / "boxes.json")).boxes
    assert (found.box_format, found.inverted, found.images_by) == ("xywh", {"xyxy": 1, "xywh": 0}, "image id")
    assert found.extent == (1, 2, 120, 80)
    (tmp_path / "boxes.csv").write_text("image_id,x1,y1,x2,y2\na,0,0,nan,5\na,9,9,1,-20\n")
    found = info(str(tmp_path / "boxes.csv")).boxes
    assert (found.unusable, found.inverted, found.extent) == (1, {"xyxy": 1, "xywh": 1}, (9, 9, 1, -20))
    (tmp_path / "none.json").write_text("[]")
    found = info(str(tmp_path / "none.json")).boxes
    assert (found.count, found.images, found.per_image, found.extent) == (0, 0, (0, 0, 0), None)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs of each format, whole and as a part."""
    folder = tmp_path_factory.mktemp("outputs")
    np.save(folder / "map.npy", np.zeros((3, 9, 9), np.float32))
    np.save(folder / "boxes.npy", np.array([[0.0, 0, 5, 5], [1, 1, 4, 4]]))
    spec = PoolSpec((2, 2), reduce="mean")
    for suffix in (".npy", ".npz", ".h5"):
        for name, shard in (("whole", None), ("part", Shard(1, 3))):
            output = folder / f"{name}{suffix}"
            align(AlignJob(str(folder / "map.npy"), folder / "boxes.npy", spec, output=output, shard=shard), Silent())
    return folder


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_outputs(outputs, suffix):
    whole, part = (info(str(outputs / f"{name}{suffix}")) for name in ("whole", "part"))
    if suffix == ".npy":  # which cannot say how it was made, unless it is a part
        assert whole.parameters == {}
    else:
        assert (whole.parameters["op"], whole.parameters["output_width"]) == ("roi_align", 2)
        assert {alike.kind.shape for alike in whole.arrays.kinds if "features" in alike.names} == {(2, 3)}
        assert "shard" not in whole.parameters
    assert (part.parameters["shard"], part.parameters["shard_total_rows"]) == ("1/3", 2)
    assert part.maps is None


@pytest.mark.parametrize("name", ["boxes.npy", "part.h5", "."])
def test_the_command(outputs, name):
    told = json.loads(run(outputs, "info", name, "--json").stdout)
    assert told["name"].startswith(name)
    assert told["bytes"] > 0
    for width in ("80", "160"):
        shown = run(outputs, "info", name, COLUMNS=width).stdout
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= int(width)
        for alike in (told["arrays"] or {"kinds": []})["kinds"]:
            if told["boxes"] is None:
                words = f"{tuple(alike['shape'])} {alike['dtype']} {alike['storage']}".split()
                assert all(word in shown for word in words)
        for parameter, value in told["parameters"].items():
            if width == "160" and value != "" and parameter != "roicli_version":
                assert f"{parameter} " in shown
                assert str(value) in shown


@pytest.mark.parametrize(
    "name", ["nix.h5", "nix.json", "nix*.npy", "text.h5", "text.npz", "text.npy", "text.txt", "text.json"]
)
def test_unreadable(tmp_path, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("what")
    with pytest.raises(RoicliError) as refusal:
        info(str(tmp_path / name))
    assert refusal.value.exit_code == 3
    assert name in refusal.value.message


def test_unreadable_is_one_message(tmp_path):
    done = run(tmp_path, "info", "nix.h5", expect=3)
    assert done.stdout == ""
    assert done.stderr == "error: nix.h5 does not exist\nhint: Check the spelling and the folder.\n"


def test_truncated_files_are_told(outputs, tmp_path):
    """At every eighth byte: described or refused, nothing else."""
    for name in ("part.h5", "part.npz", "map.npy", "boxes.npy"):
        data = (outputs / name).read_bytes()
        refused = 0
        for end in range(0, len(data), max(8, len(data) // 60)):
            (tmp_path / name).write_bytes(data[:end])
            try:
                info(str(tmp_path / name))
            except RoicliError:
                refused += 1
        assert refused > 10, name


def test_a_truncated_npz_is_called_so(outputs, tmp_path):
    """And not a zip archive that is no .npz."""
    (tmp_path / "part.npz").write_bytes((outputs / "part.npz").read_bytes()[:700])
    for command in (["info", "part.npz"], ["check", "part.npz", outputs / "boxes.npy"]):
        done = run(tmp_path, *command, expect=3)
        assert "error: part.npz is truncated: its table of contents is missing" in done.stderr


def test_what_cannot_be_pooled_is_described(tmp_path):
    """Zeros that are as good as not there."""
    np.savez_compressed(tmp_path / "zeros.npz", features=np.zeros((20, 256, 60, 60), np.float32))
    found = info(str(tmp_path / "zeros.npz"))
    assert kinds(found.arrays) == {((20, 256, 60, 60), "float32", "deflate", 1, ("features",))}
    assert "claims 73,728,128 bytes" in found.not_maps


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("none.npy", np.zeros((0, 3, 7, 7)), ["feature maps  0"]),
        ("boxes.npy", np.zeros((0, 5)), ["boxes  0 of 0 images"]),
        ("one.npy", np.ones((1, 4)), ["boxes           1 of 1 image", "  an image has  1"]),
    ],
)
def test_nothing_is_said_of_nothing(tmp_path, name, array, words):
    np.save(tmp_path / name, array)
    lines = [line.rstrip() for line in run(tmp_path, "info", name).stdout.split("\n\n")[0].splitlines()]
    assert lines[1 : 1 + len(words)] == words
    assert len(lines) == 2 or len(array)


@pytest.mark.parametrize("dtype", ["U1", "c16"])
def test_what_could_be_boxes_and_is_not_is_described(tmp_path, dtype):
    np.save(tmp_path / "odd.npy", np.zeros((3, 4), dtype))
    found = info(str(tmp_path / "odd.npy"))
    assert found.arrays.kinds[0].kind.shape == (3, 4)
    assert "is not real numbers" in found.not_maps


def test_an_npy_says_whence_it_came_if_asked_to(tmp_path):
    np.save(tmp_path / "f.npy", np.ones((1, 3, 8, 8), np.float32))
    (tmp_path / "b.json").write_text("[[0, 0, 4, 4]]")
    run(tmp_path, "align", "f.npy", "b.json", "-o", "pooled.npy", "--size", "2", "--sidecar", "-q")
    found = info(str(tmp_path / "pooled.npy"))
    assert (found.parameters["features"], found.parameters["output_height"], found.pooled) == ("f.npy", 2, "")
    assert info(str(tmp_path / "pooled.npy.origin.json")).parameters == found.parameters
    np.save(tmp_path / "pooled.npy", np.ones((1, 3, 2, 1)))  # of somebody else
    found = info(str(tmp_path / "pooled.npy"))
    assert (found.parameters, found.pooled) == (
        {},
        "by its name and shape, pooled features: 1 box, 3 channels, 2 x 1 bins",
    )
    refused = run(tmp_path, "align", "f.npy", "b.json", "-o", "pooled.npy", expect=3)
    assert "pooled.npy exists" in refused.stderr
    run(tmp_path, "align", "f.npy", "b.json", "-o", "pooled.npy", "--overwrite", "-q")
    assert not (tmp_path / "pooled.npy.origin.json").exists()
    refused = run(tmp_path, "align", "f.npy", "b.json", "-o", "p.h5", "--sidecar", expect=3)
    assert "p.h5 says itself how it was made\nhint: Leave --sidecar out." in refused.stderr


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("roi_feats", (7, 8, 3, 3), "7 boxes, 8 channels, 3 x 3 bins"),
        ("pooled-means", (7, 8), "7 boxes, 8 channels"),
        ("pooled", (2, 8, 50, 68), ""),
        ("feats", (7, 8, 3, 3), ""),
    ],
)
def test_pooled_features_are_known_by_name_and_shape(tmp_path, name, shape, said):
    np.save(tmp_path / f"{name}.npy", np.ones(shape, np.float32))
    assert info(str(tmp_path / f"{name}.npy")).pooled.removeprefix("by its name and shape, pooled features: ") == said


@pytest.mark.parametrize("name", ["out.h5", "out.npz", "out.safetensors", "out.npy"])
def test_damaged_rows_are_named(tmp_path, name):
    np.save(tmp_path / "f.npy", np.random.default_rng(0).standard_normal((1, 300, 8, 8)).astype(np.float32))
    (tmp_path / "b.json").write_text(str([[0, 0, n, 4] for n in range(1, 7)]))
    more = ["--sidecar"] if name == "out.npy" else []
    run(tmp_path, "align", "f.npy", "b.json", "-o", name, "--size", "2", "-q", *more)
    assert "checksums" in (said := run(tmp_path, "info", "--verify", name).stdout)
    assert "all 6 rows fit" in said
    stored = read_output(find_format(tmp_path / name), tmp_path / name)
    data = bytearray((tmp_path / name).read_bytes())
    for row in (1, 2, 5):
        data[stored.features.start + row * 4800] ^= 1
    (tmp_path / name).write_bytes(data)
    assert "damaged rows: 1-2, 5; make them again" in run(tmp_path, "info", "--verify", name, expect=1).stdout
    found = json.loads(run(tmp_path, "info", "--verify", name, "--json", expect=1).stdout)
    assert found["verified"] == {"rows": 6, "damaged": [[1, 2], [5, 5]]}


def test_what_has_no_checksums_is_not_verified(tmp_path):
    np.save(tmp_path / "pooled.npy", np.ones((1, 3, 2, 2)))
    refused = run(tmp_path, "info", "--verify", "pooled.npy", expect=3)
    assert "pooled.npy holds no checksums\nhint: Outputs have them in .h5, .npz" in refused.stderr
