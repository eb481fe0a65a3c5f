"""Paths of objects: a name that is an address of a store opens, lists and tells its state as that of a file does."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path, PosixPath
from typing import Any

from roicli.errors import FileError, UsageError
from roicli.files import Stamp, natural_key
from roicli.stores import requests
from roicli.stores.file import StoredObject, StoreFile
from roicli.stores.requests import Address

_ADDRESS = re.compile(r"(s3|gs|az|hf|https?):/+", re.IGNORECASE)
# Stores that tell the names of their objects.
_LISTED = ("s3", "gs", "az")
# And those that are written to, which are the same.
WRITTEN = _LISTED
# What describes a group or an array of Zarr.
_ZARR = ("zarr.json", ".zgroup", ".zarray")
# Objects that a process remembers, each with at most 4 MiB of what it has read.
_REMEMBERED = 32

# Addresses of HTTP in full, by what is shown of them.
_full: dict[str, str] = {}
_objects: OrderedDict[str, StoredObject] = OrderedDict()


def path_of(name: str | os.PathLike[str]) -> Path:
    """Make a path of a name, of a file or of an object in a store.

    Parameters
    ----------
    name : str or path
        "feats.npy", or "s3://bucket/feats.npy", "gs://...", "az://container/...", "https://...", or
        "hf://datasets/OWNER/NAME/FILE". What an address of HTTP has of users, passwords and queries is used, and
        shown nowhere.

    Examples
    --------
    >>> path = path_of("https://me:secret@example.org/feats.npy?token=secret")
    >>> str(path), path.suffix, path.name
    ('https://example.org/feats.npy', '.npy', 'feats.npy')
    """
    text = os.fspath(name)
    if isinstance(name, StorePath) or not (found := _ADDRESS.match(text)):
        return name if isinstance(name, Path) else Path(text)
    scheme, rest = found[1].lower(), text[found.end() :]
    if not rest.strip("/"):
        raise UsageError(f"{text} is not a whole address", "Give one such as s3://BUCKET/feats.npy.")
    if not scheme.startswith("http"):
        if "@" in rest.partition("/")[0]:
            raise UsageError(f"{scheme}:// addresses have no user or password", requests.CREDENTIALS[scheme])
        return StorePath(f"{scheme}:/{rest}")
    from urllib.parse import urlsplit  # few jobs need it

    parts = urlsplit(f"{scheme}://{rest}")
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    path = StorePath(shown)
    if (full := parts._replace(fragment="").geturl()) != str(path):
        _full[str(path)] = full
    return path


def replaced(name: str, old: str, new: str) -> str:
    """Replace a part of a name, and of what is secret of it."""
    shown = name.replace(old, new)
    if name in _full:
        _full[shown] = _full[name].replace(old, new)
    return shown


def is_store(path: str | os.PathLike[str]) -> bool:
    """Tell whether a name is the address of an object in a store."""
    return isinstance(path, StorePath) or _ADDRESS.match(os.fspath(path)) is not None


def is_secret(name: str) -> bool:
    """Tell whether an address of HTTP has what is shown nowhere: a user and password, or a query."""
    from urllib.parse import urlsplit

    parts = urlsplit(name)
    return parts.scheme in ("http", "https") and bool("@" in parts.netloc or parts.query)


def is_pattern(name: str) -> bool:
    """Tell whether a name is a pattern: not that of a file, nor of a store that tells no names."""
    if is_store(name):
        return name.startswith(_LISTED) and glob.has_magic(name)
    return not os.path.lexists(name) and glob.has_magic(name)


class StorePath(PosixPath):
    """The path of an object; `path_of` makes it."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __reduce__(self) -> Any:
        return path_of, (self.address.root if str(self).startswith("http") else str(self),)

    @property
    def address(self) -> Address:
        """Where the object lies."""
        shown = str(self)
        scheme, _, rest = shown.partition("://")
        if scheme == "hf":
            return Address(shown, _hugging_face(shown, rest), "")
        if scheme in _LISTED:
            bucket, _, key = rest.partition("/")
            return Address(shown, f"{scheme}://{bucket}", key)
        return Address(shown, _in_full(self), "")

    @property
    def object(self) -> StoredObject:
        """The object, with what this process has read of it."""
        name = str(self)
        found = _objects.get(name) or StoredObject(self.address)
        _objects[name] = found
        _objects.move_to_end(name)
        if len(_objects) > _REMEMBERED:
            _objects.popitem(last=False)
        return found

    def open(self, mode: str = "r", *_: Any, **how: Any) -> Any:
        """Open the object to read it: as bytes, unbuffered, or as text."""
        if set(mode) & set("wax+"):
            raise OSError(f"{self} is in a store, where roicli only reads")
        file = StoreFile(self.object)
        if "b" in mode:
            return file
        from io import BufferedReader, TextIOWrapper

        return TextIOWrapper(BufferedReader(file), how.get("encoding"), how.get("errors"), how.get("newline"))

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        return bytes(self.open("rb").read())

    def write_bytes(self, data: Any) -> int:
        """Write the object, whole or not at all; OutputError if that fails."""
        self.write_as(data, "overwrite")
        return len(data)

    def write_as(self, data: Any, mode: Any) -> Any:
        """Write the object as `requests.put` does, and return its version."""
        forget(str(self))
        return requests.put(self.address, data, mode)

    def unlink(self, missing_ok: bool = True) -> None:
        """Remove the object, if it exists."""
        forget(str(self))
        requests.delete(self.address, [self.address.key])

    def remove_below(self) -> None:
        """Remove all objects below this name."""
        requests.delete(self.address, [*requests.keys_below(_folder(self.address))])
        forget()

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return what is known of an object's state since it was opened here."""
        stamp = self.object.stamp
        seconds = stamp.modified // 10**9
        ten = (stat.S_IFREG | 0o444, stamp.inode, 0, 1, 0, 0, stamp.size, seconds, seconds, 0)
        return os.stat_result(
            ten, {"st_mtime_ns": stamp.modified, "st_ctime_ns": 0, "st_blocks": -(-stamp.size // 512)}
        )

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether there is such an object, or a folder."""
        return self.is_file() or self._has_below()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether objects lie below this name; where names are not told, a Zarr store is believed to."""
        address = self.address
        if address.scheme not in _LISTED:
            within = any(parent.suffix.lower() == ".zarr" for parent in self.parents)
            return self.suffix.lower() == ".zarr" or (within and any((self / name).is_file() for name in _ZARR))
        return not (address.key and self.is_file()) and self._has_below()

    def _has_below(self) -> bool:
        """Tell whether objects lie below this name, where names are told."""
        return self.address.scheme in _LISTED and bool(requests.keys_below(_folder(self.address), 1))

    def is_symlink(self) -> bool:
        """Return False."""
        return False

    def iterdir(self) -> Generator[StorePath, None, None]:
        """Yield what lies directly below."""
        for name in dict.fromkeys(path.relative_to(self).parts[0] for path in self.below()):
            yield self / name

    def below(self) -> list[StorePath]:
        """List all objects below this name."""
        return [*self.sizes()]

    def sizes(self) -> dict[StorePath, int]:
        """List all objects below this name, and their sizes."""
        address = self.address
        if address.scheme not in _LISTED:
            raise FileError(
                f"{self} cannot be searched: {address.scheme}:// tells no names of files",
                "Name one file, or of Zarr one array; zarr.consolidate_metadata(STORE) lists the arrays of a group.",
            )
        listed = requests.keys_below(_folder(address))
        return {StorePath(f"{address.root}/{key}"): size for key, size in listed.items()}


def _in_full(path: StorePath) -> str:
    """Return an address of HTTP with what is secret of it, or of what it lies below."""
    from urllib.parse import urlsplit

    for above in (path, *path.parents):
        if (full := _full.get(str(above))) is not None:
            parts = urlsplit(full)
            return parts._replace(path=parts.path.rstrip("/") + str(path).removeprefix(str(above))).geturl()
    return str(path)


def _folder(address: Address) -> Address:
    return address._replace(key=f"{address.key.rstrip('/')}/" if address.key else "")


def _hugging_face(shown: str, rest: str) -> str:
    """Return the address of a file in a repository: datasets/OWNER/NAME/FILE, or OWNER/NAME/FILE of a model."""
    parts = rest.split("/")
    kind = parts[:1] if parts[0] in ("datasets", "spaces") else []
    owner, name, *file = [*parts[len(kind) :], "", ""]
    name, _, revision = name.partition("@")
    file = file[:-2]
    if not (owner and name and file):
        raise UsageError(f"{shown} names no file of a repository", "Give hf://datasets/OWNER/NAME/FILE.")
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return "/".join([host, *kind, owner, name, "resolve", revision or "main", *file])


def matches(pattern: str) -> list[str]:
    """Return the objects and Zarr stores that match a pattern, in natural order; ``**`` matches folders in folders."""
    segments = str(path_of(pattern)).split("/")
    plain = next(number for number, segment in enumerate(segments) if glob.has_magic(segment))
    parts = [fnmatch.translate(segment).removesuffix(r"\Z").removesuffix(r"\z") for segment in segments]
    parts = [part.replace(".*", "[^/]*") for part in parts]
    text = "/".join("(?:.*)" if segment == "**" else part for segment, part in zip(segments, parts, strict=True))
    wanted = re.compile(text.replace("(?:.*)/", "(?:.*/)?"))
    found = [str(path) for path in path_of("/".join(segments[:plain])).below()]  # type: ignore[attr-defined]
    folders = {name[: end + 5] for name in found if (end := name.find(".zarr/")) > 0}
    return sorted((name for name in {*found, *folders} if wanted.fullmatch(name)), key=natural_key)


def forget(name: str | None = None) -> None:
    """Ask anew for the state of an object, or of all, when they are opened next: a new job begins."""
    if name is None:
        _objects.clear()
    else:
        _objects.pop(name, None)


def states(names: Iterable[str]) -> Mapping[str, Stamp | None]:
    """Return the states of files and objects as they are now; None for those that are gone."""
    names = [*names]
    remote = [path for path in map(path_of, names) if isinstance(path, StorePath)]

    def now(path: StorePath) -> Stamp | None:
        try:
            return requests.state(path.address)
        except FileNotFoundError:
            return None

    found: dict[str, Stamp | None] = {}
    if remote:
        found |= zip(map(str, remote), requests.together(now, remote), strict=True)
    for name in names:
        if name not in found:
            try:
                found[name] = Stamp.of(name)
            except OSError:
                found[name] = None
    return found
