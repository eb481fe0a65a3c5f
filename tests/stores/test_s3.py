"""Features and boxes by s3://, from moto's server: folders, patterns, every format, and how many bytes it sends."""

import numpy as np
import pytest
from driving import run
from stores.bucket import bucket as bucket
from stores.bucket import needs_bucket
from stores.writers import FORMATS, SHAPE, WANTED, make_maps, write_boxes

pytestmark = needs_bucket
HOW = ("--spatial-scale", "1/16", "--size", "2", "--workers", "1")


@pytest.fixture(scope="module")
def s3(tmp_path_factory, bucket):
    """Fill a bucket with features in every format."""
    import zarr

    folder, maps = tmp_path_factory.mktemp("bucket"), make_maps()
    for name, write in FORMATS.items():
        write(folder / name, maps)
    for name, array in maps.items():
        (folder / "one a file").mkdir(exist_ok=True)
        np.save(folder / f"one a file/{name}.npy", array)
    zarr.create_array(folder / "maps.zarr", data=np.stack([*maps.values()]), chunks=(1, *SHAPE))
    for counted_by in (True, False):
        write_boxes(folder / f"boxes{counted_by}.json", WANTED, counted_by)
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(str(path.relative_to(folder)), path.read_bytes())
    return folder, bucket.where, bucket.sent


@pytest.mark.parametrize("name", [*FORMATS, "maps.zarr", "one a file", "one a file/*.npy", "one a*/im*.npy"])
def test_features_of_a_bucket(tmp_path, s3, name):
    folder, where, sent = s3
    boxes = f"boxes{name in ('maps.npy', 'maps.zarr')}.json"
    run(tmp_path, "align", folder / name, folder / boxes, "-o", "local.npy", *HOW)
    sent.clear()
    done = run(tmp_path, "align", f"s3://maps/{name}", f"s3://maps/{boxes}", "-o", "remote.npy", *HOW, **where)
    assert (tmp_path / "remote.npy").read_bytes() == (tmp_path / "local.npy").read_bytes()
    assert sum(sent) < 1.3 * len(WANTED) * 4 * np.prod(SHAPE)
    assert "SECRET" not in done.stderr


def test_other_commands_take_addresses(tmp_path, s3):
    _, where, _ = s3
    told = run(tmp_path, "info", "s3://maps/maps.h5", **where).stdout
    assert "s3://maps/maps.h5, 3.42 MiB" in told
    how = ("s3://maps/maps.h5", "s3://maps/boxesFalse.json", "--spatial-scale", "1/16")
    assert "s3://maps/maps.h5, 14 maps" in run(tmp_path, "check", *how, **where).stdout
    assert "im1" in run(tmp_path, "trace", *how, "--bin", "0,0", **where).stdout
    run(tmp_path, "align", *how, "-o", "out.h5", **where)
    assert "10 of 10 RoIs (100.0%)" in run(tmp_path, "verify", "out.h5", *how[:2], **where).stdout
    told = run(tmp_path, "align", "s3://maps/nothing.npy", how[1], "-o", "no.npy", expect=3, **where).stderr
    assert "s3://maps/nothing.npy does not exist" in told
    told = run(tmp_path, "align", "s3://maps/*.nothing", how[1], "-o", "no.npy", expect=3, **where).stderr
    assert "s3://maps/*.nothing: no file matches it" in told


def test_two_worker_processes_begin_afresh(tmp_path, s3):
    folder, where, _ = s3
    how = ("--spatial-scale", "1/16", "--workers", "2", "--quiet")
    run(tmp_path, "align", folder / "chunks.h5", folder / "boxesFalse.json", "-o", "local.npy", *how)
    run(
        tmp_path,
        "align",
        "s3://maps/chunks.h5",
        "s3://maps/boxesFalse.json",
        "-o",
        "remote.npy",
        *how,
        **where,
    )
    assert (tmp_path / "remote.npy").read_bytes() == (tmp_path / "local.npy").read_bytes()
