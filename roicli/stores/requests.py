"""Byte ranges of objects, and whole new ones, by the package obstore: each request is tried a few times and checked.

Nothing here quotes what a server or the library says: that may hold addresses with tokens, or parts of keys.
"""

from __future__ import annotations

import errno
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from roicli.errors import ChangedInputError, FileError, OutputError, RoicliError, WorkerError
from roicli.files import Stamp

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

# Requests of a process at a time, and most bytes of one: slow lines finish it in time.
AT_ONCE, PART = 8, 2**21
# A request is sent so often, after so many seconds and twice as many each time.
TRIES, PAUSE = 5, 0.2
# Without a byte for so long, a request has failed; and after so long whatever comes.
STALLED, TOO_LONG = "20s", "120s"
# What is sent counts as silence: 32 MiB in a minute take 4.5 Mbit/s.
SENT = "60s"

# Where the credentials of a store are looked for.
CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or install boto3, which reads ~/.aws), and AWS_REGION; "
    "for a public bucket set AWS_SKIP_SIGNATURE=true.",
    "gs": "Run `gcloud auth application-default login`, or set GOOGLE_SERVICE_ACCOUNT; for a public bucket set "
    "GOOGLE_SKIP_SIGNATURE=true.",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN.",
    "hf": "Set HF_TOKEN, or run `hf auth login`.",
    "https": "Give the whole address, with its token; a signed one may have expired.",
}
_REASONS = {
    "TimedOut": "the server does not answer in time",
    "ConnectionRefused": "the server refuses the connection",
    "dns error": "its host is not known",
    "certificate": "the certificate of its host is not trusted",
    "Incomplete": "the server ends the connection too early",
}
_COPY = "Write to a disk here, and copy it to the store."
_SPELLING = "Check the spelling of the bucket."
# Of the answers that another try does not mend, these aside.
_BUSY = {"408", "409", "425", "429"}

_process = 0
_pool: ThreadPoolExecutor | None = None


class Address(NamedTuple):
    """Where an object lies.

    Attributes
    ----------
    shown : str
        Its name, without what is secret.
    root : str
        What a client is made for: "s3://bucket", or an address of HTTP in full.
    key : str
        Its name below the root; of one by HTTP empty, since that keeps its address to the letter.
    """

    shown: str
    root: str
    key: str

    @property
    def scheme(self) -> str:
        """As in its name; "https" for HTTP too."""
        scheme = self.shown.partition(":")[0]
        return "https" if scheme == "http" else scheme


def in_use() -> bool:
    """Tell whether this process has asked for an object: a fork of it could ask for none, and would wait for ever."""
    return _process == os.getpid()


def fetch_all(address: Address, ranges: Iterable[tuple[int, int]], take: Callable[[int, bytes, Stamp], None]) -> None:
    """Fetch ranges, in parts and several at a time; `take` gets where a part begins, its bytes, and the object's state.

    Bytes beyond its end are left out. FileNotFoundError if it does not exist, FileError for whatever else fails.
    """
    parts = [(first, min(first + PART, stop)) for start, stop in ranges for first in range(start, stop, PART)]
    for _ in together(lambda part: take(part[0], *_fetch(address, *part)), parts):
        pass


def _fetch(address: Address, start: int, stop: int) -> tuple[bytes, Stamp]:
    def once(obstore: Any) -> tuple[bytes, Stamp]:
        answer = obstore.get(client(address.scheme, address.root), address.key, options={"range": (start, stop)})
        stamp, data = _stamp(answer.meta), bytes(answer.bytes())
        if len(data) != (expected := min(stop, stamp.size) - start):
            raise _Wrong(f"it sends {len(data):,} bytes for {expected:,}")
        return data, stamp

    try:
        return _tried(address, once)
    except _Beyond:  # an empty object has none
        stamp = _tried(address, lambda obstore: _stamp(obstore.head(client(address.scheme, address.root), address.key)))
        if stamp.size > start:
            raise FileError(f"{address.shown} cannot be read: its server sends no part of it", "Download it.") from None
        return b"", stamp


def state(address: Address) -> Stamp:
    """Return the state of an object as it is now; FileNotFoundError if it does not exist."""
    return _fetch(address, 0, 1)[1]  # a signed address is good for this only


def keys_below(address: Address, most: int | None = None) -> dict[str, int]:
    """List the keys that begin with a folder's, and their sizes; at most so many."""

    def once(obstore: Any) -> dict[str, int]:
        listed = obstore.list(client(address.scheme, address.root), prefix=address.key or None, chunk_size=most or 1000)
        return dict(islice(((str(one["path"]), int(one["size"])) for block in listed for one in block), most))

    return _alone(lambda: _tried(address, once))


def put(address: Address, data: bytes | memoryview, mode: Any = "overwrite") -> Any:
    """Write an object, whole or not at all, and return its version.

    With the mode "create" it must not be there, with a version it must be that one; FileExistsError if it is not so.
    OutputError for whatever else fails.
    """
    try:
        return _alone(lambda: _tried(address, lambda obstore: _put(obstore, address, data, mode), "written"))
    except FileNotFoundError:
        raise OutputError(f"{address.shown} cannot be written: {address.root} does not exist", _SPELLING) from None
    except FileExistsError:
        found, version = content_of(address)
        if found != data:  # else the answer of the server was lost
            raise
        return version


def _put(obstore: Any, address: Address, data: bytes | memoryview, mode: Any) -> Any:
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        asked = client(address.scheme, address.root, SENT if len(data) > PART else "")
        return obstore.put(asked, address.key, data, mode=mode, use_multipart=False)  # parts would outlive a kill
    except (AlreadyExistsError, PreconditionError):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), address.shown) from None


def content_of(address: Address) -> tuple[bytes | None, Any]:
    """Return an object, and its version; None if it does not exist."""

    def once(obstore: Any) -> tuple[bytes, Any]:
        answer = obstore.get(client(address.scheme, address.root), address.key)
        return bytes(answer.bytes()), answer.meta

    try:
        return _alone(lambda: _tried(address, once))
    except FileNotFoundError:
        return None, None


def delete(root: Address, keys: Sequence[str]) -> None:
    """Delete objects of a bucket, those that exist."""
    if keys:
        with suppress(FileNotFoundError):
            _alone(lambda: _tried(root, lambda obstore: _delete(obstore, root, keys), "deleted"))


def _delete(obstore: Any, root: Address, keys: Sequence[str]) -> None:
    obstore.delete(client(root.scheme, root.root), list(keys))


def _alone(work: Callable[[], T]) -> T:
    """Do what waits for a network where signals come through meanwhile."""
    return next(together(lambda _: work(), [None]))


def together(work: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
    """Do what waits for a network for several items at a time, in threads that let signals through."""
    global _pool
    _enter()
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor

        _pool = ThreadPoolExecutor(AT_ONCE, "roicli-stores")
    return _pool.map(work, items)


@lru_cache(256)
def client(scheme: str, root: str, stalled: str = "") -> Any:
    """Return what asks a bucket or a server, with the credentials of the environment."""
    _enter()
    from obstore import store

    how: dict[str, Any] = {
        "client_options": {"timeout": TOO_LONG, "read_timeout": stalled or STALLED, "allow_http": True},
        "retry_config": {"max_retries": 0},
    }
    bucket = root.partition("://")[2]
    if scheme == "s3":
        return store.S3Store(bucket, **how, **_profile())
    if scheme == "gs":
        return store.GCSStore(bucket, **how)
    if scheme == "az":
        return store.AzureStore(bucket, **how)
    from urllib.parse import urlsplit

    parts = urlsplit(root)
    user, _, host = parts.netloc.rpartition("@")
    if said := _authorization(scheme, user):
        how["client_options"]["default_headers"] = {"authorization": said}
    return store.HTTPStore.from_url(parts._replace(netloc=host).geturl(), **how)


def _authorization(scheme: str, user: str) -> str:
    """Return the header that says who asks: a user and password of the address, or the token of Hugging Face."""
    if scheme == "hf":
        token = os.environ.get("HF_TOKEN")
        if not token:
            with suppress(ImportError):
                from huggingface_hub import get_token

                token = get_token()
        return f"Bearer {token}" if token else ""
    from base64 import b64encode
    from urllib.parse import unquote

    return f"Basic {b64encode(unquote(user).encode()).decode()}" if user else ""


def _profile() -> dict[str, Any]:
    """Return what boto3 knows of credentials and region, where it is installed and the environment says nothing."""
    if {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE"} & os.environ.keys():
        return {}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}
    session = boto3.Session()
    if session.get_credentials() is None:
        return {}
    region = {"region": session.region_name} if session.region_name else {}
    return {"credential_provider": Boto3CredentialProvider(session), **region}


class _Wrong(Exception):
    """An answer that is not what was asked for."""


class _Beyond(Exception):
    """The object ends before the range."""


def _enter() -> None:
    global _process
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        raise FileError(
            "addresses of stores are read by the package obstore", "Install it: pip install 'roicli[stores]'."
        ) from error
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise WorkerError(
            "this process is a fork of one that had asked a store, and cannot ask it",
            "Start processes by spawn: multiprocessing.get_context('spawn').",
        )


def _stamp(meta: Any) -> Stamp:
    mark = str(meta["e_tag"] or meta["version"] or "")
    modified = int(meta["last_modified"].timestamp() * 1e9)
    return Stamp(0, zlib.crc32(mark.encode()), int(meta["size"]), modified, 0)


def _tried(address: Address, once: Callable[[Any], T], done: str = "read") -> T:
    """Call what may fail for a while; an error after a few times, or at once where no time would help."""
    import obstore

    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1) * (0.5 + os.urandom(1)[0] / 256))
        try:
            return once(obstore)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), address.shown) from None
        except (RoicliError, FileExistsError):
            raise
        except _Wrong as error:
            reason = f"the server answers wrongly: {error}"
        except Exception as error:
            reason = _reason(address, error, done)
    what = f"{address.shown} cannot be {done}: {reason} ({TRIES} times)"
    raise FileError(what, "Try again, or download it.") if done == "read" else OutputError(what, "Try again.")


def _reason(address: Address, error: Exception, done: str) -> str:
    """Say in a few words why a request failed; raise what another try would not mend."""
    name, text, where = type(error).__name__, str(error), f"{address.shown} cannot be {done}"
    kind = FileError if done == "read" else OutputError
    status = re.search(r"status code: ((\d+)[\w ]*)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    said = f"the server answers {status[1].strip()}{f' ({code[1]})' if code else ''}" if status else ""
    if "StartTooLarge" in text or (status and status[2] == "416"):
        raise _Beyond from None
    if name in ("PermissionDeniedError", "UnauthenticatedError") or "redential" in text:
        raise kind(f"{where}: {said or 'it needs credentials'}", CREDENTIALS[address.scheme]) from None
    if done == "written" and (name == "NotImplementedError" or (status and status[2] == "501")):
        raise kind(f"{where}: its server cannot put an object only where there is none", _COPY) from None
    if name == "NotSupportedError":
        raise kind(f"{where}: its server sends whole files only, no ranges of bytes", "Download it.") from None
    if status and status[2][0] in "34" and status[2] not in _BUSY:
        hint = {"3": "Set AWS_REGION to that of the bucket."}.get(status[2][0], CREDENTIALS[address.scheme])
        hint = _SPELLING if status[2] == "404" else hint
        raise kind(f"{where}: {said}", hint) from None
    return said or next((words for sign, words in _REASONS.items() if sign in text), "the request fails")


def changed(shown: str) -> ChangedInputError:
    """Make the error for an object that is not what it was."""
    return ChangedInputError(
        f"{shown} was modified after it was opened", "Run it again once nothing writes to its inputs."
    )
