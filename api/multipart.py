"""The four dialects in which official clients upload a file.

Python 1.x and Go send `metadata` as a JSON form field, JavaScript as a file part, Python 2.x as `metadata[key]` fields.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile

from api.strict_json import count_keys, read_json
from core.errors import InvalidField, InvalidInput, UnsupportedMediaType

_NAME_BYTES = 255
#: Of fields in memory and of files on disk; of an upload both are few.
_MOST_FIELDS, _MOST_FILES = 200, 8
_METADATA_BYTES = 64 * 1024
#: Others decode to what cannot be encoded again, such as lone surrogates.
_CHARSETS = ("utf-8", "us-ascii")
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
    """The `content` part and what was said about it. Raises `MillraceError` or `HTTPException`."""
    _refuse_other_types(request.headers.get("content-type", ""))
    form = await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_METADATA_BYTES)
    content = form.get("content")
    if not isinstance(content, UploadFile):
        raise InvalidInput([InvalidField("required", "", "content is required: the file, as multipart/form-data")])
    name = _text(form, "filename") or content.filename or "file"
    if len(name.encode()) > _NAME_BYTES:
        raise InvalidInput([InvalidField("string_lte", "filename", f"Must be at most {_NAME_BYTES} bytes")])
    kind = _text(form, "type") or content.content_type or ""
    return Upload(content, name.replace("\x00", ""), kind, _storable(await _metadata(form)))


def _refuse_other_types(header: str) -> None:
    kind, parameters = parse_options_header(header)
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("Send the file as multipart/form-data, in a part named content.")
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in _CHARSETS:
        raise UnsupportedMediaType("Send multipart/form-data in UTF-8, which needs no charset.")


def _text(form: FormData, field: str) -> str | None:
    value = form.get(field)
    return value if isinstance(value, str) else None


async def _metadata(form: FormData) -> dict[str, Any]:
    given = form.get("metadata")
    if given is None:
        return _bracketed(form)
    raw = await given.read(_METADATA_BYTES + 1) if isinstance(given, UploadFile) else given.encode()
    if len(raw) > _METADATA_BYTES:
        raise InvalidInput([InvalidField("string_lte", "metadata", f"Must be at most {_METADATA_BYTES} bytes")])
    metadata = read_json(raw or b"{}", "metadata")
    if not isinstance(metadata, dict):
        raise InvalidInput([InvalidField("invalid_type", "metadata", "Must be a JSON object")])
    return metadata


def _storable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Refuses before the bytes are kept what the row could not hold."""
    count_keys(metadata, "metadata")  # Which refuses what is nested too deeply.
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
