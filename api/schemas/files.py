"""What is told of a file. Its upload is a form, which is read by hand."""

from datetime import datetime
from typing import Any

from pydantic import MISSING, BaseModel, Field

from api.schemas.common import Url


class Checksums(BaseModel):
    """In hexadecimal."""

    sha256: str
    md5: str


class FileUrls(BaseModel):
    get: Url


class File(BaseModel):
    """A file that a client uploaded for its predictions."""

    id: str
    name: str
    content_type: str
    size: int = Field(description="In bytes.")
    etag: str
    checksums: Checksums
    metadata: dict[str, Any] = Field(description="What was said about it when it was uploaded.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is removed.")
    urls: FileUrls


class Upload(BaseModel):
    """A file and what is to be known about it. `metadata` is also taken as fields named `metadata[key]`."""

    content: str = Field(
        description="The file.", json_schema_extra={"format": "binary", "contentMediaType": "application/octet-stream"}
    )
    filename: str | MISSING = Field(MISSING, max_length=255, description="Its name; default: the name of the part.")
    type: str | MISSING = Field(MISSING, description="Its media type; default: the type of the part.")
    metadata: dict[str, Any] | MISSING = Field(
        MISSING, description="A JSON object of at most 64 KiB, shown with the file."
    )
