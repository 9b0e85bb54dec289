"""The cookies of the pages: their names and how they are protected.

Where people come by https, a `__Host-` name keeps other hosts of the same domain, and plain http, from setting them.
"""

from fastapi import Request, Response

from core.settings import Settings


class Cookies:
    def __init__(self, settings: Settings) -> None:
        self._is_secure = settings.url.startswith("https:")

    def _name(self, name: str) -> str:
        return f"__Host-millrace-{name}" if self._is_secure else f"millrace-{name}"

    def get(self, request: Request, name: str) -> str | None:
        return request.cookies.get(self._name(name))

    def set(self, response: Response, name: str, value: str, max_age: int) -> None:
        response.set_cookie(
            self._name(name), value, max_age=max_age, path="/", secure=self._is_secure, httponly=True, samesite="lax"
        )

    def delete(self, response: Response, name: str) -> None:
        response.delete_cookie(self._name(name), path="/", secure=self._is_secure, httponly=True, samesite="lax")
