"""Outputs in a bucket: Zarr, whose shards are objects and whose root comes last."""

import json
import os
import signal
import subprocess

import numpy as np
import pytest
from driving import ROICLI, content, run
from stores.bucket import bucket as bucket
from stores.bucket import needs_bucket

import roicli
from roicli.newfiles import NewFile
from roicli.outputs import zarr as zarr_output
from roicli.outputs.zarrinstore import ShardsInStore
from roicli.resume import checkpoints, instore
from roicli.stores import requests

pytestmark = needs_bucket
ALIGN = ("align", "f.npy", "b.npy", "--size", "1", "--workers", "1", "-q", "-o")
MIXED = tuple("mixed.npy" if word == "b.npy" else word for word in ALIGN)
OUT = "s3://maps/out.zarr"


@pytest.fixture(scope="module")
def small():
    """Chunks of two rows and shards of four, of three float32 each; requests are sent again at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr_output, "_CHUNK_BYTES", 24)
        patch.setattr(zarr_output, "_SHARD_BYTES", 48)
        patch.setattr("roicli.execution.plan._SMALL_BYTES", 0)
        patch.setattr(requests, "PAUSE", 0.001)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, small):
    """Write maps of three channels, 24 boxes in two orders, and the outputs of them in six shards."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    np.save(folder / "f.npy", rng.standard_normal((8, 3, 6, 6)).astype(np.float32))
    image, corner = np.repeat(np.arange(8), 3)[:, None], rng.uniform(0, 3, (24, 2))
    boxes = np.concatenate([image, corner, corner + 2], axis=1)
    np.save(folder / "b.npy", boxes)
    np.save(folder / "mixed.npy", rng.permutation(boxes))
    run(folder, *ALIGN, "local.zarr")
    run(folder, *MIXED, "mixed.zarr")
    return folder


@pytest.fixture
def folder(made, monkeypatch, bucket, tmp_path):
    """Empty the bucket, and ask it from now on; temporary files lie in a folder of their own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bucket.fault = lambda environment: None
    bucket.empty()
    for name, value in bucket.where.items():
        monkeypatch.setenv(name, value)
    return made


def test_the_objects_are_the_files_of_a_local_output(folder, bucket):
    run(folder, *ALIGN, OUT)
    whole = content(folder / "local.zarr")
    assert len(whole) == 14
    assert bucket.content() == {f"out.zarr/{key}": data for key, data in whole.items()}
    told = run(folder, *ALIGN, OUT, expect=3).stderr
    assert told == f"error: {OUT} exists\nhint: Give --overwrite to replace it, or name another output.\n"
    bucket.put("out.zarr/features/c.99.0.0.0", b"of an output with more rows")
    run(folder, *ALIGN, OUT, "--overwrite", "--aligned")
    assert bucket.content("out.zarr/").keys() == whole.keys()
    assert bucket.content("out.zarr/") != whole


def test_it_is_read_back(folder):
    run(folder, *ALIGN, OUT)
    assert f"file                {OUT}, 14 files" in run(folder, "info", OUT).stdout
    assert "all 24 rows fit" in run(folder, "info", "--verify", OUT).stdout
    run(folder, "verify", OUT, "f.npy", "b.npy", "-q")
    run(folder, "convert", OUT, "back.npy", "-q")
    assert roicli.verify(folder / "back.npy", folder / "f.npy", folder / "b.npy", size=1).agrees


@pytest.mark.parametrize(("words", "whole"), [(ALIGN, "local.zarr"), (MIXED, "mixed.zarr")])
def test_parts_are_merged(folder, bucket, monkeypatch, words, whole):
    """Without a file of all rows, if each part holds rows side by side."""
    for part in (1, 2):
        run(folder, *words, f"s3://maps/part-{part}.zarr", "--shard", f"{part}/2")
        if part == 1:
            assert json.loads(run(folder, "missing", "s3://maps/*.zarr", "--json", expect=1).stdout)["missing"] == [2]
    if words is ALIGN:
        monkeypatch.delattr("roicli.outputs.zarr.copy_rows")
        monkeypatch.delattr("roicli.outputs.zarrinstore.copy_rows")
    for merged in (OUT, f"merged-{whole}"):
        run(folder, "merge", merged, "s3://maps/part-*.zarr", "-q")
    assert bucket.content("out.zarr/") == content(folder / f"merged-{whole}") == content(folder / whole)


def test_boxes_in_another_order_than_maps(folder, bucket, tmp_path):
    """Their rows lie in a temporary file, which goes in the end."""
    run(folder, *MIXED, OUT)
    assert bucket.content("out.zarr/") == content(folder / "mixed.zarr")
    run(folder, *ALIGN, OUT, "--overwrite", "--group-by", "image", "--reduce", "mean")
    assert "groups" in run(folder, "info", OUT).stdout
    bucket.fault = lambda environment: ("403 No", b"") if "/boxes/" in environment["PATH_INFO"] else None
    run(folder, *MIXED, OUT, "--overwrite", expect=3)
    assert not [*tmp_path.iterdir()]


def test_workers_of_an_executor(folder, bucket):
    (folder / "factory.py").write_text("from concurrent.futures import ThreadPoolExecutor as make")
    bucket.put("f.npy", (folder / "f.npy").read_bytes())
    how = ("s3://maps/f.npy", *ALIGN[2:])
    run(folder, "align", *how, OUT, "--executor", "factory:make", "--report", "run.json")
    features = {key: data for key, data in content(folder / "local.zarr").items() if key.startswith("features/")}
    assert features.items() < bucket.content("out.zarr/").items()


def test_boxes_that_are_left_out_are_listed_beside_it(folder, bucket):
    boxes = np.load(folder / "b.npy")
    boxes[8:13, 1] = np.nan
    np.save(folder / "bad.npy", boxes)
    bad = (*("bad.npy" if word == "b.npy" else word for word in ALIGN[:-1]), "--bad-boxes", "zero", "-o")
    run(folder, *bad, OUT)
    assert bucket.content("out.zarr.skipped.csv")[""].count(b"not finite") == 5
    run(folder, *bad, "bad.zarr")
    assert bucket.content("out.zarr/") == content(folder / "bad.zarr")
    run(folder, *ALIGN, OUT, "--overwrite")
    assert "out.zarr.skipped.csv" not in bucket.content()


@pytest.fixture
def killed(folder, monkeypatch):
    """Return a function that runs a job and kills it after so many shards, all but the last one proved."""

    def begin(shards, words=ALIGN):
        left, commit = iter(range(shards)), ShardsInStore.commit

        def killing(self):
            if next(left, None) is None:
                keeping[0]._checkpoint()
                os.kill(os.getpid(), signal.SIGKILL)
            commit(self)

        keeping = []
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.Checkpoints, "begin", lambda self: keeping.append(self))
            patch.setattr(ShardsInStore, "commit", killing)
            run(folder, *words, OUT, expect=-signal.SIGKILL)

    return begin


def test_a_killed_job_is_resumed_by_another_machine(folder, bucket, killed, monkeypatch):
    """All that it needs lies in the store."""
    killed(4)
    assert "out.zarr/zarr.json" not in bucket.content()
    assert {".out.zarr.lock", ".out.zarr.journal"} < bucket.content().keys()
    told = run(folder, *ALIGN, OUT, expect=3).stderr
    assert "is unfinished: 16 of 24 rows are done" in told
    assert "--overwrite to start over" in told
    told = run(folder, "info", OUT).stdout
    assert "16 of 24 rows are done" in told
    told = run(folder, *ALIGN, OUT, "--resume", "--aligned", expect=3).stderr
    assert "was begun by another job: aligned was False, is True" in told
    before = bucket.content("out.zarr/")
    monkeypatch.setattr("roicli.resume.lock._machine", lambda: "another")
    told = run(folder, *ALIGN, OUT, "--resume", expect=3).stderr
    assert "is being written by process" in told
    assert "remove s3://maps/.out.zarr.lock" in told
    monkeypatch.setattr("roicli.resume.lock.STALE_SECONDS", -1.0)
    told = run(folder, *[word for word in ALIGN if word != "-q"], OUT, "--resume").stderr
    assert f"16 of 24 rows of {OUT} were there already" in told
    assert bucket.content("out.zarr/") == content(folder / "local.zarr")
    assert before.items() < bucket.content("out.zarr/").items()
    assert "24 by an earlier run" in run(folder, *[word for word in ALIGN if word != "-q"], OUT, "--resume").stderr


@pytest.mark.parametrize(("killed_one", "how"), [(ALIGN, "--overwrite"), (MIXED, "--resume")])
def test_a_killed_job_is_started_over(folder, bucket, killed, killed_one, how):
    """Rows that lay in a temporary file are gone, whatever shards were made of them."""
    killed(2, killed_one)
    assert {*bucket.content("out.zarr/features/c.")} == {"0.0.0.0", "1.0.0.0"}
    run(folder, *MIXED, OUT, how)
    bucket.asking.delete_object(Bucket="maps", Key=".out.zarr.journal")  # which stays with --resume
    assert {name.partition("/")[0] for name in bucket.content()} == {"out.zarr"}
    assert bucket.content("out.zarr/") == content(folder / "mixed.zarr")


@pytest.mark.parametrize("after", [0, 1])
def test_a_job_that_is_killed_when_it_publishes(folder, bucket, monkeypatch, after):
    """Before or after its root is put: beside it an index appears."""
    publish = NewFile.publish

    def killing(self):
        if after or self.final.name != "zarr.json":
            publish(self)
        if self.final.name == "zarr.json":
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(NewFile, "publish", killing)
        run(folder, *ALIGN, OUT, "--index", f"{after}.csv", expect=-signal.SIGKILL)
    assert ("out.zarr/zarr.json" in bucket.content()) == after
    run(folder, *ALIGN, OUT, "--index", f"{after}.csv", "--resume")
    assert bucket.content("out.zarr/") == content(folder / "local.zarr")
    assert (folder / f"{after}.csv").read_text().count("\n") == 25


def test_a_shard_that_goes_meanwhile(folder, bucket, killed):
    killed(4)
    bucket.asking.delete_object(Bucket="maps", Key="out.zarr/features/c.1.0.0.0")
    told = run(folder, *ALIGN, OUT, "--resume", expect=3).stderr
    assert "out.zarr/features/c.1.0.0.0 is not there any more" in told
    assert "out.zarr/zarr.json" not in bucket.content()


def test_an_interrupted_job_keeps_what_is_done(folder, bucket, monkeypatch):
    commit, left = ShardsInStore.commit, iter(range(3))

    def interrupted(self):
        if next(left, None) is None:
            raise KeyboardInterrupt
        commit(self)

    with monkeypatch.context() as patch:
        patch.setattr(ShardsInStore, "commit", interrupted)
        told = run(folder, *ALIGN, OUT, expect=130).stderr
    assert "12 of 24 rows are done; continue with --resume\n" in told
    assert ".out.zarr.lock" not in bucket.content()
    run(folder, *ALIGN, OUT, "--resume")
    assert bucket.content("out.zarr/") == content(folder / "local.zarr")


def test_a_run_that_took_over_is_left_alone(folder, bucket, monkeypatch):
    monkeypatch.setattr(instore, "_BEAT", 0.0)
    commit = ShardsInStore.commit

    def taken_over(self):
        bucket.put(".out.zarr.lock", b"another")
        commit(self)

    monkeypatch.setattr(ShardsInStore, "commit", taken_over)
    told = run(folder, *ALIGN, OUT, expect=3).stderr
    assert f"{OUT}: another run has taken over, or s3://maps/.out.zarr.lock was removed" in told
    assert bucket.content(".out.zarr.lock")[""] == b"another"


@pytest.mark.parametrize("fault", ["503 Slow Down", "lost", "stalled"])
def test_a_tenth_of_the_requests_fails(folder, bucket, monkeypatch, fault):
    """A put whose answer is lost has happened: it is sent again, and found done."""
    import time

    monkeypatch.setattr(requests, "SENT", "0.3s")
    monkeypatch.setattr(requests, "STALLED", "0.3s")
    asked, once = iter(range(1, 10**6)), set()

    def fail(environment):
        if fault == "lost":  # the first answer to each object that is put
            path = environment["PATH_INFO"]
            if environment["REQUEST_METHOD"] != "PUT" or path in once:
                return None
            once.add(path)
            [*bucket.served(environment, lambda *_: None)]
        elif next(asked) % 10:
            return None
        elif fault == "stalled":
            time.sleep(0.5)
        return "503 Slow Down", b""

    bucket.fault = fail
    run(folder, *ALIGN, OUT)
    bucket.fault = lambda environment: None
    assert bucket.content() == {f"out.zarr/{key}": data for key, data in content(folder / "local.zarr").items()}


DENIED = ("403 No", b"<Code>AccessDenied</Code>sesame"), "the server answers 403 Forbidden (AccessDenied)\nhint: Set"
BUSY = ("503 Slow Down", b"sesame"), "the server answers 503 Service Unavailable (5 times)\nhint: Try again."
OLD = ("501 Not Implemented", b""), "its server cannot put an object only where there is none\nhint: Write to a disk"


@pytest.mark.parametrize(("puts", "answer", "told"), [(0, *DENIED), (0, *OLD), (4, *BUSY), (12, *DENIED)])
def test_all_requests_fail_after_some(folder, bucket, puts, answer, told):
    left = iter(range(puts))

    def fail(environment):
        return answer if environment["REQUEST_METHOD"] == "PUT" and next(left, None) is None else None

    bucket.fault = fail
    shown = run(folder, *ALIGN, OUT, expect=3).stderr
    bucket.fault = lambda environment: None
    assert f" cannot be written: {told}" in shown
    assert len([line for line in shown.splitlines() if line.startswith("error")]) == 1
    assert "sesame" not in shown
    assert "out.zarr/zarr.json" not in bucket.content()
    run(folder, *ALIGN, OUT, *(["--resume"] if puts else []))
    assert bucket.content("out.zarr/") == content(folder / "local.zarr")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("s3://nothing/out.zarr", "s3://nothing/.out.zarr.lock cannot be written: s3://nothing does not exist"),
        ("s3://maps/out.npy", "s3://maps/out.npy: of all outputs only .zarr is written to a store, by s3://, gs://"),
        ("http://me:SECRET@host/out.zarr?SECRET", "http://host/out.zarr: of all outputs only .zarr is written to"),
    ],
)
def test_what_cannot_be_written(folder, output, told):
    shown = run(folder, *ALIGN, output, expect=3).stderr
    assert shown.startswith(f"error: {told}")
    assert "SECRET" not in shown


def test_what_is_not_an_output_is_not_written_over(folder, bucket):
    bucket.put("out.zarr/.zgroup", b"{}")
    assert f"error: {OUT} exists" in run(folder, *ALIGN, OUT, expect=3).stderr
    assert f"error: {OUT} exists" in run(folder, *ALIGN, OUT, "--resume", expect=3).stderr
    bucket.put("in.npy", (folder / "f.npy").read_bytes())
    bucket.put("out.zarr/in.npy", (folder / "f.npy").read_bytes())
    how = ("align", "s3://maps/out.zarr/in.npy", "b.npy", "-q", "-o", OUT, "--overwrite")
    assert "out.zarr/in.npy" in bucket.content()
    assert f"{OUT} is an input of this job" in run(folder, *how, expect=3).stderr
    assert "a store cannot do" in run(folder, "convert", "local.zarr", OUT, expect=3).stderr


def test_worker_processes_put_their_shards(folder, bucket, dose):
    """They start afresh, so shards have their true size."""
    np.save(folder / "large.npy", np.ones((8, 512, 8, 8), np.float32))
    boxes = np.load(folder / "b.npy")
    np.save(folder / "many.npy", np.repeat(boxes, 50, axis=0))
    how = (ROICLI, "align", "large.npy", "many.npy", "--workers", "2", "-q", "-o")
    for output in ("large.zarr", OUT):
        subprocess.run([*how, output], cwd=folder, env=os.environ | bucket.where, check=True)
    assert bucket.content("out.zarr/") == content(folder / "large.zarr")
