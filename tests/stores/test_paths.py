"""Names of objects in stores."""

import pickle
import sys

import pytest

from roicli.errors import FileError, UsageError
from roicli.sources import open_source
from roicli.stores.path import StorePath, is_pattern, is_store, path_of


def test_an_address_is_a_path():
    path = path_of("s3://bucket/feats/a.npy")
    assert (str(path), path.name, path.stem, path.suffix) == ("s3://bucket/feats/a.npy", "a.npy", "a", ".npy")
    assert str(path.with_name("b.h5")) == str(path.parent / "b.h5") == "s3://bucket/feats/b.h5"
    assert path.address == ("s3://bucket/feats/a.npy", "s3://bucket", "feats/a.npy")
    assert pickle.loads(pickle.dumps(path)) == path == path_of(path) == path_of(str(path))
    assert not isinstance(path_of("a.npy"), StorePath)


def test_what_is_secret_is_used_and_not_shown():
    path = path_of("https://me:secret@example.org/a%20b/x.npy?token=secret#top")
    assert str(path) == "https://example.org/a%20b/x.npy"
    assert path.address.root == "https://me:secret@example.org/a%20b/x.npy?token=secret"
    assert path_of(str(path)).address == pickle.loads(pickle.dumps(path)).address == path.address
    with pytest.raises(UsageError, match="no user or password") as error:
        path_of("s3://me:secret@bucket/a.npy")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("hf://datasets/o/n/a/b.npy", "https://huggingface.co/datasets/o/n/resolve/main/a/b.npy"),
        ("hf://o/n@v1/b.npy", "https://huggingface.co/o/n/resolve/v1/b.npy"),
    ],
)
def test_a_file_of_hugging_face(monkeypatch, name, address):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert path_of(name).address == (name, address, "")
    with pytest.raises(UsageError, match="names no file"):
        _ = path_of("hf://datasets/o/n").address


def test_a_pattern_is_one_where_names_are_told():
    assert is_pattern("s3://bucket/*.npy")
    assert not is_pattern("https://example.org/a.npy?x=*")
    assert is_store("https://example.org/a.npy")
    assert not is_store("data/s3.npy")


def test_without_obstore_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(FileError, match="package obstore") as error:
        open_source("s3://bucket/a.npy")
    assert "roicli[stores]" in error.value.hint
