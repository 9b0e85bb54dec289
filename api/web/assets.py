"""Static files of the pages, under names that follow from their content, so that a browser may keep them for ever."""

import hashlib
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from core.errors import NotFound

FOLDER = Path(__file__).parent / "static"
_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_DIGEST_LENGTH = 12


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGEST_LENGTH]


_DIGESTS = {file.name: _digest(file) for file in FOLDER.iterdir()}


def asset(name: str) -> str:
    """Its path on this server. Raises `KeyError`."""
    return f"/static/{_DIGESTS[name]}/{name}"


def install(app: FastAPI) -> None:
    async def file(digest: str, name: str) -> FileResponse:
        if _DIGESTS.get(name) != digest:
            raise NotFound(f"There is nothing at /static/{digest}/{name}.")
        return FileResponse(FOLDER / name, headers=_HEADERS)

    app.add_api_route("/static/{digest}/{name}", file, include_in_schema=False)
