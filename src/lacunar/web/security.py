"""What a request must bring: a known host, no foreign origin, and the token of the address that `serve` printed."""

import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/api/v1"
JSON_BYTES = 8 * 2**20  # of a request that is no upload
LOCAL = ("127.0.0.1", "localhost", "[::1]")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Lets requests through to an app, or refuses them; every answer gets `HEADERS`.

    The token comes in the address of the page, which then sets a cookie (HttpOnly, SameSite=Strict), or from a script
    as ``Authorization: Bearer TOKEN``.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str], port: int) -> None:
        self._app, self._token, self._cookie = app, token, f"lacunar_{port}"
        self._hosts = {f"{host.lower()}:{port}" for host in hosts}
        if port == 80:
            self._hosts |= {host.lower() for host in hosts}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        in_address = self._is_token(parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0])
        needs_token = scope["path"] == "/" or scope["path"].startswith(API)
        refusal = self._refusal(headers, scope)
        if refusal is None and needs_token and not (in_address or self._has_token(headers)):
            refusal = (401, "the token is missing or wrong: open the address that `lacunar serve` printed")

        async def answer(message: Message) -> None:
            """Send a message, with the headers of security and, to who came with the token, its cookie."""
            if message["type"] == "http.response.start":
                more = dict(HEADERS)
                if in_address and refusal is None:
                    more["Set-Cookie"] = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                there = list(message.get("headers", []))
                message["headers"] = [*there, *((name.encode(), value.encode()) for name, value in more.items())]
            await send(message)

        if refusal is not None:
            code, why = refusal
            plain = scope["path"] == "/"
            response = PlainTextResponse(why, code) if plain else JSONResponse({"detail": why}, code)
            await response(scope, receive, answer)
            return
        await self._app(scope, receive, answer)

    def _refusal(self, headers: dict[str, str], scope: Scope) -> tuple[int, str] | None:
        if headers.get("host", "").lower() not in self._hosts:
            return 403, "this host name is not allowed: open the address that `lacunar serve` printed"
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            return 403, "requests from other sites are not allowed"
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"] != "/":
            return 403, "requests from other sites are not allowed"
        large = headers.get("content-type", "").startswith("application/octet-stream")
        if not large and scope["method"] in ("POST", "PUT"):
            length = headers.get("content-length", "")
            if not length.isdecimal():
                return 411, "the length of the request is wanted"
            if int(length) > JSON_BYTES:
                return 413, f"got {int(length):,} bytes: wanted at most {JSON_BYTES:,}; fewer or shorter strokes"
        return None

    def _has_token(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and self._is_token(cookies[self._cookie].value)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
