"""The four dialects in which official clients upload a file.

Python 1.x and Go send `metadata` as a JSON form field, JavaScript as a file part, Python 2.x as `metadata[key]` fields.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from api.body import refuse_deep_nesting
from core.errors import BadRequest, InvalidField, InvalidInput

_NAME_BYTES = 255
_METADATA_BYTES = 64 * 1024
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_BRACKETED = re.compile(rf"metadata(?:{_BRACKET.pattern})+")
# As orjson writes the character that Postgres does not keep.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class Upload:
    content: UploadFile
    name: str
    content_type: str
    metadata: dict[str, Any]


async def read_upload(request: Request) -> Upload:
    """The `content` part and what was said about it. Raises `InvalidInput` or `BadRequest`."""
    form = await request.form(max_files=8, max_fields=200)
    content = form.get("content")
    if not isinstance(content, UploadFile):
        raise InvalidInput([InvalidField("required", "", "content is required: the file, as multipart/form-data")])
    name = _text(form, "filename") or content.filename or "file"
    if len(name.encode()) > _NAME_BYTES:
        raise InvalidInput([InvalidField("string_lte", "filename", f"Must be at most {_NAME_BYTES} bytes")])
    kind = _text(form, "type") or content.content_type or ""
    return Upload(content, name.replace("\x00", ""), kind, _storable(await _metadata(form)))


def _text(form: FormData, field: str) -> str | None:
    value = form.get(field)
    return value if isinstance(value, str) else None


async def _metadata(form: FormData) -> dict[str, Any]:
    given = form.get("metadata")
    if given is None:
        return _bracketed(form)
    raw = await given.read(_METADATA_BYTES) if isinstance(given, UploadFile) else given
    try:
        metadata = orjson.loads(raw or "{}")
    except orjson.JSONDecodeError:
        raise BadRequest("metadata is not valid JSON.") from None
    if not isinstance(metadata, dict):
        raise InvalidInput([InvalidField("invalid_type", "metadata", "Must be a JSON object")])
    return metadata


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Refuses before the bytes are kept what the row could not hold."""
    refuse_deep_nesting(metadata)
    if _NUL.search(orjson.dumps(metadata)):
        raise InvalidInput([InvalidField("format", "metadata", "Must not contain the character U+0000")])
    return metadata


def _bracketed(form: FormData) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for field, value in form.multi_items():
        if field.startswith("metadata[") and isinstance(value, str):
            if not _BRACKETED.fullmatch(field):
                raise InvalidInput([InvalidField("format", field, "Must be like metadata[key] or metadata[key][key]")])
            *path, last = _BRACKET.findall(field)
            place = metadata
            for key in path:
                place = place.setdefault(key, {})
                if not isinstance(place, dict):
                    raise InvalidInput([InvalidField("invalid_type", field, "Contradicts another field")])
            place[last] = value
    return metadata
