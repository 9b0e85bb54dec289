"""Files out of the container into the store, and the container's words for them into ours.

The container names a file by the URL that the upload endpoint gave it, or inlines it as a data URI; a prediction's row
names it by reference. Nothing else of what a container says is taken for a file.
"""

import asyncio
import base64
import binascii
import mimetypes
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import files
from core.clock import monotonic
from core.errors import Unavailable
from core.files import NewFile
from core.log import get_logger
from core.resources import Resources

log = get_logger()

#: A single output file; the container's own upload gives up after 25 s anyway.
MAX_FILE_BYTES = 1024 * 1024 * 1024
_NAME_CHARACTERS = 200
# Whoever waits longer has lost its lease, or its model has given up the upload.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5
#: What a container calls a file it has uploaded. Nothing answers there: the name only has to come back to us.
_LOCATION = "http://outputs.millrace.invalid/"

_DATA_URI = re.compile(r"^data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*?(;base64)?,", re.IGNORECASE)


class OutputFiles:
    """Keeps the output files of one node's predictions."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def save(
        self, account_id: str, prediction_id: str, name: str, content_type: str, chunks: AsyncIterator[bytes]
    ) -> str:
        """Stores one file while the model still runs. Returns the URL by which the container will name it."""
        new = NewFile(account_id, files.OUTPUT, _safe_name(name), content_type, prediction_id)
        row = await self._recorded(await files.store(self._resources.files, new, chunks, MAX_FILE_BYTES))
        return f"{_LOCATION}{row.id}/{quote(row.name)}"

    async def _recorded(self, values: dict[str, Any]) -> Row:
        """Once Postgres answers, which may be restarting: a model's work is not lost for that."""
        deadline = monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                async with self._resources.database.transaction() as tx:
                    return await files.record(tx, values)
            except SQLAlchemyError as error:
                if monotonic() > deadline:
                    raise Unavailable("The file could not be recorded. Try again later.") from error
                log.warning("file not recorded, will try again", file=values["id"], error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def translate(self, account_id: str, prediction_id: str, output: Any, holds_files: bool) -> Any:
        """The output with every file as a reference. Data URIs are taken for files only where the schema says so."""
        if isinstance(output, str):
            if output.startswith(_LOCATION):
                id, _, name = output.removeprefix(_LOCATION).partition("/")
                return files.reference(id, unquote(name))
            if holds_files and output.startswith("data:"):
                return await self._from_data_uri(account_id, prediction_id, output)
            return output
        if isinstance(output, list):
            return [await self.translate(account_id, prediction_id, item, holds_files) for item in output]
        if isinstance(output, dict):
            return {
                key: await self.translate(account_id, prediction_id, value, holds_files)
                for key, value in output.items()
            }
        return output

    async def _from_data_uri(self, account_id: str, prediction_id: str, uri: str) -> str:
        found = _DATA_URI.match(uri)
        if found is None:
            return uri
        try:
            body = uri[found.end() :]
            content = base64.b64decode(body) if found[2] else unquote_to_bytes(body)
        except (binascii.Error, ValueError):
            return uri
        content_type = found[1] or "application/octet-stream"
        name = "output" + (mimetypes.guess_extension(content_type) or "")
        url = await self.save(account_id, prediction_id, name, content_type, _once(content))
        return await self.translate(account_id, prediction_id, url, False)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _safe_name(name: str) -> str:
    """A file name without a path, controls or surprises, at most 200 characters."""
    kept = re.sub(r"[^\w.\- ]", "_", name.rsplit("/", 1)[-1]).strip(". ")
    return kept[-_NAME_CHARACTERS:] or "output"
