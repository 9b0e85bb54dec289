"""Bytes and their rows: uploads, models' outputs, bundles. The store is a folder, S3, GCS or Azure, by one URL.

An output file appears in a row as `millrace-file:<id>/<name>` and becomes a URL or a data URI when it is shown,
so that a changed public URL breaks nothing. The id of an output file is its capability: whoever has it may read.
"""

import asyncio
import base64
import errno
import hashlib
import hmac
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url
from sqlalchemy import ARRAY, Row, Text, any_, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Direct, Hot, Transaction, seconds_from_now
from core.errors import NotFound, TooLarge, Unavailable
from core.ids import new_id, new_secret
from core.log import get_logger
from core.people import audit
from core.remote_files import SCHEME as REMOTE
from core.remote_files import RemoteStore
from core.settings import Settings
from core.tables import File

log = get_logger()

UPLOAD, OUTPUT = "upload", "output"
TABLE = File.__table__

#: So long the bytes outlive their expiry: whoever read a row just before may still be reading what it names.
GRACE_SECONDS = 60.0
# Whoever deletes has other things to do than to wait for a store that hangs.
_DELETE_SECONDS = 2.0

_SCHEME = "millrace-file:"
_REFERENCE = re.compile(r"^millrace-file:([0-9a-z]+)/(.+)$", re.DOTALL)
# It becomes a header when the file is fetched, and clients and models write into it what they like.
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,127}/[\w.+-]{1,127}(?:; ?[\w.+-]{1,127}=[\w.+-]{1,127})*", re.ASCII)
_UNKNOWN_CONTENT_TYPE = "application/octet-stream"
_CHUNK_BYTES = 1024 * 1024
_NO_SPACE = os.strerror(errno.ENOSPC)


class FileStore:
    """The bytes alone, by key; knows no rows."""

    def __init__(self, settings: Settings) -> None:
        url = settings.file_store_url
        self._store: ObjectStore | RemoteStore
        if url.startswith("file://"):
            self._store = LocalStore(url.removeprefix("file://"), mkdir=True)
        elif url.startswith(REMOTE):
            self._store = RemoteStore(url)
        else:
            self._store = from_url(url)

    async def put(self, key: str, chunks: AsyncIterator[bytes] | bytes | Path) -> None:
        """Raises `Unavailable` where the store takes nothing, as when its disk is full."""
        try:
            await self._store.put_async(key, chunks)
        except (BaseError, OSError) as error:
            reason = " ".join(str(error).split())
            log.error("file not stored", key=key, error=reason)
            full = " Its disk is full." if _NO_SPACE in reason else ""
            raise Unavailable(f"The file store could not take the file.{full} Try again later.") from error

    async def read(self, key: str) -> bytes:
        with _answering():
            return bytes(await (await self._store.get_async(key)).bytes_async())

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Chunks of about a megabyte. Raises `NotFound` before the first one."""
        with _answering():
            return _chunks(await self._store.get_async(key))

    async def delete(self, key: str) -> None:
        try:
            await self._store.delete_async(key)
        except (NotFoundError, FileNotFoundError):
            return

    async def has(self, key: str) -> bool:
        try:
            await self._store.head_async(key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    async def has_bundle(self, digest: str) -> bool:
        return await self.has(_bundle_key(digest))

    async def put_bundle(self, digest: str, archive: Path) -> None:
        await self.put(_bundle_key(digest), archive)

    async def fetch_bundle(self, digest: str, destination: Path) -> None:
        """Writes the packed bundle to `destination`. Raises `NotFound`."""
        chunks = await self.stream(_bundle_key(digest))
        with destination.open("wb") as archive:
            async for chunk in chunks:
                archive.write(chunk)


async def _chunks(found: Any) -> AsyncIterator[bytes]:
    with _answering():
        async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(chunk)


@contextmanager
def _answering() -> Iterator[None]:
    """A store that has no such file, or is on another machine and out of reach, as our own errors."""
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise NotFound("The file's content is gone.") from None
    except ConnectionError as error:
        raise Unavailable("The file store does not answer. Try again later.") from error


def _bundle_key(digest: str) -> str:
    return f"bundles/{digest}.tar.gz"


class Measured:
    """Passes chunks on while counting and hashing them. Raises `TooLarge` as soon as they exceed the limit."""

    def __init__(self, chunks: AsyncIterator[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit
        self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._limit:
                raise TooLarge(f"The file is larger than {self._limit} bytes, the most this server accepts.")
            self._md5.update(chunk)
            self._sha256.update(chunk)
            yield chunk

    @property
    def digests(self) -> dict[str, str]:
        return {"md5": self._md5.hexdigest(), "sha256": self._sha256.hexdigest()}


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to keep: whose, why, and under which name."""

    account_id: str
    kind: str
    name: str
    content_type: str
    prediction_id: str | None = None
    metadata: dict[str, Any] | None = None
    lifetime_seconds: int | None = None
    id: str | None = None
    """Chosen by now, where the same request again must find it; else a new one."""


async def store(files: FileStore, new: NewFile, chunks: AsyncIterator[bytes], limit: int) -> dict[str, Any]:
    """Writes the bytes and returns the values of their row, for `record`: bytes first, so no row ever lacks them."""
    id = new.id or (new_id() if new.kind == UPLOAD else new_secret())
    key = f"{new.kind}s/{id}"
    measured = Measured(chunks, limit)
    await files.put(key, aiter(measured))
    lifetime = new.lifetime_seconds
    return {
        "id": id,
        "account_id": new.account_id,
        "kind": new.kind,
        "prediction_id": new.prediction_id,
        "name": new.name,
        "content_type": new.content_type if _CONTENT_TYPE.fullmatch(new.content_type) else _UNKNOWN_CONTENT_TYPE,
        "size": measured.size,
        **measured.digests,
        "metadata": new.metadata or {},
        "store_key": key,
        "expires_at": None if lifetime is None else seconds_from_now(timedelta(seconds=lifetime).total_seconds()),
    }


async def record(tx: Transaction, values: dict[str, Any]) -> Row:
    """The row, which is there already where the same request has been here before."""
    recording = upsert(File.__table__).values(**values).on_conflict_do_nothing(index_elements=["id"])
    row = await tx.first(recording.returning(*File.__table__.c))
    return row or await tx.one(select(*File.__table__.c).where(File.id == values["id"]))


def _current() -> Any:
    return or_(File.expires_at.is_(None), File.expires_at > func.now())


async def get_upload(tx: Transaction, account_id: str, file_id: str) -> Row:
    row = await tx.first(
        select(*File.__table__.c).where(
            File.id == file_id, File.account_id == account_id, File.kind == UPLOAD, _current()
        )
    )
    if row is None:
        raise NotFound("The requested file could not be found.")
    return row


async def get_output(tx: Transaction, file_id: str) -> Row:
    row = await tx.first(select(*File.__table__.c).where(File.id == file_id, File.kind == OUTPUT, _current()))
    if row is None:
        raise NotFound("The requested file could not be found.")
    return row


async def list_uploads(tx: Transaction, account_id: str, before: tuple | None, limit: int) -> list[Row]:
    statement = select(*File.__table__.c).where(File.account_id == account_id, File.kind == UPLOAD, _current())
    if before is not None:
        statement = statement.where(tuple_(File.created_at, File.id) < before)
    return list(await tx.all(statement.order_by(File.created_at.desc(), File.id.desc()).limit(limit)))


async def remove_upload(tx: Transaction, account_id: str, file_id: str) -> Row:
    """Hides it. Its bytes may be discarded after the commit; the purge does so in any case."""
    row = await get_upload(tx, account_id, file_id)
    await tx.execute(update(File).where(File.id == file_id).values(expires_at=func.now()))
    facts = {"name": row.name, "size": row.size, "content_type": row.content_type}
    await audit.record(tx, "file.delete", f"file:{file_id}", account_id=account_id, before=facts)
    return row


async def expire_uploads(tx: Transaction, account_id: str) -> None:
    """Nobody is given them from now on."""
    uploads = File.account_id == account_id, File.kind == UPLOAD
    await tx.execute(update(File).where(*uploads, _current()).values(expires_at=func.now()))


# --- their end: a row that has expired is the mark by which its bytes are found and deleted; then it goes too ---------


async def expire_outputs(tx: Transaction, prediction_ids: Sequence[str]) -> None:
    """Nobody is given them from now on."""
    await tx.execute(
        update(File)
        .where(File.prediction_id.in_(prediction_ids), File.kind == OUTPUT, _current())
        .values(expires_at=func.now())
    )


async def expired(tx: Transaction, limit: int) -> Sequence[Row]:
    """Whose bytes nobody can be reading any more, uploads and outputs."""
    return await tx.all(
        select(File.id, File.store_key)
        .where(File.expires_at < seconds_from_now(-GRACE_SECONDS))
        .order_by(File.expires_at)
        .limit(limit)
    )


async def discard(files: FileStore, expired: Sequence[Row]) -> list[str]:
    """Deletes the bytes; no transaction is open meanwhile. The ids of those that are gone: a store may refuse some."""
    results = await asyncio.gather(*(_discard(files, row.store_key) for row in expired))
    refusals = [result for result in results if result is not None]
    if refusals:
        log.warning("bytes not deleted, will try again", count=len(refusals), error=refusals[0])
    return [row.id for row, refusal in zip(expired, results, strict=True) if refusal is None]


async def _discard(files: FileStore, key: str) -> str | None:
    """Why not."""
    try:
        async with asyncio.timeout(_DELETE_SECONDS):
            await files.delete(key)
    except (BaseError, OSError) as error:
        return repr(error)
    return None


async def settle(tx: Transaction, expired: Sequence[Row], gone: Sequence[str]) -> None:
    """Forgets the rows whose bytes are gone. The others go to the end of the line, or they would hold it up."""
    await tx.execute(delete(File).where(File.id.in_(gone)))
    refused = [row.id for row in expired if row.id not in gone]
    if refused:
        await tx.execute(update(File).where(File.id.in_(refused)).values(expires_at=func.now()))


# --- references, URLs and signatures ----------------------------------------------------------------------------------


def reference(file_id: str, name: str) -> str:
    """How an output file stands in a prediction's row."""
    return f"millrace-file:{file_id}/{name}"


def upload_url(settings: Settings, file_id: str) -> str:
    return f"{settings.url}/v1/files/{file_id}"


def output_url(settings: Settings, file_id: str, name: str) -> str:
    return f"{settings.url}/v1/outputs/{file_id}/{quote(name)}"


def own_upload(url: str) -> str | None:
    """The id, if the URL is one of ours: clients put `urls.get` of an uploaded file straight into an input."""
    found = re.search(r"/v1/files/([0-9a-z]{26})(?:/download)?(?:\?|$)", url)
    return found and found[1]


def sign_download(settings: Settings, owner: str, file_id: str, expiry: int) -> str:
    """Replicate's scheme: base64 of HMAC-SHA256 over `owner id expiry`."""
    mac = hmac.new(settings.secret.encode(), f"{owner} {file_id} {expiry}".encode(), "sha256")
    return base64.b64encode(mac.digest()).decode()


def is_signed(settings: Settings, owner: str, file_id: str, expiry: int, signature: str) -> bool:
    expected = sign_download(settings, owner, file_id, expiry)
    return expiry > time.time() and hmac.compare_digest(expected.encode(), signature.encode())


def with_urls(settings: Settings, output: Any) -> Any:
    """The output with each file given as its URL."""
    if isinstance(output, str):
        found = output.startswith(_SCHEME) and _REFERENCE.match(output)
        return output_url(settings, found[1], found[2]) if found else output
    if isinstance(output, list):
        # The words of a language model are thousands to a page, and no files.
        return [item if _is_text(item) else with_urls(settings, item) for item in output]
    if isinstance(output, dict):
        return {key: with_urls(settings, value) for key, value in output.items()}
    return output


def references(output: Any) -> list[str]:
    """Ids of the output files that the output names."""
    if isinstance(output, str):
        found = output.startswith(_SCHEME) and _REFERENCE.match(output)
        return [found[1]] if found else []
    if isinstance(output, list):
        return [id for item in output if not _is_text(item) for id in references(item)]
    if isinstance(output, dict):
        return [id for item in output.values() for id in references(item)]
    return []


def _is_text(output: Any) -> bool:
    return isinstance(output, str) and not output.startswith(_SCHEME)


_SMALL_OUTPUTS = Hot(
    select(TABLE.c.id, TABLE.c.name, TABLE.c.content_type, TABLE.c.store_key).where(
        TABLE.c.id == any_(bindparam("p_ids", type_=ARRAY(Text))),
        TABLE.c.kind == OUTPUT,
        TABLE.c.size <= bindparam("p_bytes"),
        # Not only current ones: what was removed after the prediction's row was read is shown as that row says.
    )
)


async def with_data(files: FileStore, tx: Transaction | Direct, settings: Settings, output: Any) -> Any:
    """The output with small files given as data URIs, which official clients turn into files even without https."""
    ids = references(output)
    if not ids:
        return output
    rows = await tx.rows(_SMALL_OUTPUTS, {"p_ids": ids, "p_bytes": settings.inline_file_bytes})
    inlined = {}
    for row in rows:
        encoded = base64.b64encode(await files.read(row.store_key)).decode()
        inlined[reference(row.id, row.name)] = f"data:{row.content_type};base64,{encoded}"
    return with_urls(settings, _replace(output, inlined))


def _replace(output: Any, replacements: dict[str, str]) -> Any:
    if isinstance(output, str):
        return replacements.get(output, output)
    if isinstance(output, list):
        return [_replace(item, replacements) for item in output]
    if isinstance(output, dict):
        return {key: _replace(value, replacements) for key, value in output.items()}
    return output
