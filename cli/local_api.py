"""Asks the api on this machine, past any proxy."""

import asyncio
import http.client
import json
from typing import Any

from core.settings import Settings

_TIMEOUT_SECONDS = 5
# What listens on every address is asked on the loopback one.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}


async def get(settings: Settings, path: str, token: str) -> tuple[int, Any]:
    """Status and body. Raises `OSError` or `http.client.HTTPException` while nothing answers properly."""
    return await asyncio.to_thread(_get, settings, path, token)


def _get(settings: Settings, path: str, token: str) -> tuple[int, Any]:
    host = _LOOPBACK.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()
