"""Other paths under which clients call: each is `/v1/…`. Pure ASGI, before routing; nothing is redirected.

/v1/v1/…                Python 1.x adds /v1 to the base URL, where every other client expects it already
/…                      Python 2.x with the base URL of 1.x; only with a token, for pages live there as well
/v1/https://host/v1/…   Go puts its base URL before `next`, which is a whole URL
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

_DOUBLED = re.compile(r"^/v1(?:/https?:/{1,2}[^/]+)?(?=/v1/)")
_NOUNS = "predictions|models|deployments|trainings|files|hardware|collections|account|search|webhooks|tokens"
_ROOT = re.compile(rf"^/(?:{_NOUNS})(?:/|$)")


class Aliases:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (path := _meant(scope)) is not None:
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


def _meant(scope: Scope) -> str | None:
    path = scope["path"]
    if path.startswith("/v1/"):
        found = _DOUBLED.match(path)
        return path[found.end() :] if found else None
    is_call = _ROOT.match(path) and any(name == b"authorization" for name, _ in scope["headers"])
    return f"/v1{path}" if is_call else None
