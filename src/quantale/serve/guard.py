"""The door of every server: who may ask, from where, how, and how much.

A page on the web can reach 127.0.0.1 from its reader's browser, by a plain request or by a name
that resolves to it (DNS rebinding). So Host must be a name of this server, Origin must be the
server's own, and what a browser calls cross-site is refused. A pure ASGI wrapper sees every route,
mounted applications and web sockets included; nothing behind it runs before all is checked.
"""

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from quantale.core.errors import UsageError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY_VARIABLE = "QUANTALE_API_KEY"
"""The environment variable that holds the key; a key is never an argument."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_METHODS = ("GET", "HEAD", "POST")
_SHORTEST_KEY = 16
_DISCARDED = 16
"""Bodies' worth of bytes that are read of a body that is too large, and thrown away."""
_DISCARD_SECONDS = 0.5
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True)
class Rules:
    """What a request must keep."""

    hosts: frozenset[str]
    """Names of this server, in lower case, without port."""
    port: int | None = None
    """The port that Host may name; None: any."""
    key: str | None = field(default=None, repr=False)
    """What every request must know; None: nothing."""
    body_bytes: int = 256 << 10
    body_seconds: float = 30.0


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let in."""

    status: int
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _Refused(Exception):  # noqa: N818  (not an error: an answer)
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def rules_for(
    address: str,
    port: int,
    key: str | None,
    *,
    names: Iterable[str] = (),
    body_bytes: int = 256 << 10,
) -> Rules:
    """Return the rules of a server bound to an address.

    names: what else it is called, for example behind a proxy. Raises UsageError for an address
    that others can reach when there is no key, and for a short key.
    """
    if key is not None and len(key) < _SHORTEST_KEY:
        raise UsageError(f"{KEY_VARIABLE} has {len(key)} characters; give at least {_SHORTEST_KEY}")
    if key is None and not is_loopback(address):
        raise UsageError(
            f"{address} can be reached by others: set {KEY_VARIABLE} to a secret, or serve on "
            "127.0.0.1"
        )
    hosts = {name.lower().strip("[]") for name in (*_LOOPBACK, address, *names)}
    return Rules(frozenset(hosts), None if any(names) else port, key, body_bytes)


def is_loopback(address: str) -> bool:
    """Say whether only this machine can reach the address."""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Wraps an application; see the module."""

    def __init__(self, app: App, rules: Rules, seen: Callable[[int], None] | None = None) -> None:
        """seen: is told the status of every answer."""
        self._app, self._rules, self._seen = app, rules, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in or answer it with an error in OpenAI's shape."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = refusal_of(scope, self._rules)
        if refusal is None and scope["type"] == "http":
            try:
                receive = await _body(scope, receive, self._rules)
            except _Refused as refused:
                refusal = refused.refusal
                await _discard(receive, self._rules)
        if refusal is None:
            await self._app(scope, receive, _hardened(send, self._seen))
        elif scope["type"] == "http":
            await _answer(_hardened(send, self._seen), refusal)
        else:
            await send({"type": "websocket.close", "code": 1008})


def refusal_of(scope: Scope, rules: Rules) -> Refusal | None:
    """Return why the request is refused by its head, or None."""
    if scope["type"] not in ("http", "websocket"):
        return Refusal(400, "neither a request nor a web socket")
    headers = _Headers(scope)
    checks = (_host(headers, rules), _origin(headers), _key(headers, rules), _method(scope))
    return next((found for found in checks if found is not None), None)


class _Headers:
    """Headers by name, each as the list of values that came."""

    def __init__(self, scope: Scope) -> None:
        self._all = [(name.lower(), value) for name, value in scope["headers"]]

    def every(self, name: bytes) -> list[str]:
        return [value.decode("latin-1").strip() for found, value in self._all if found == name]

    def one(self, name: bytes) -> str | None:
        return next(iter(self.every(name)), None)


def _host(headers: _Headers, rules: Rules) -> Refusal | None:
    named = headers.every(b"host")
    if len(named) != 1:
        return Refusal(400, f"one Host header was expected, {len(named)} came")
    found = _split(named[0])
    if found is None or found[0] not in rules.hosts:
        return Refusal(421, "this Host is not a name of this server")
    if rules.port is not None and found[1] not in (None, rules.port):
        return Refusal(421, "this Host names another port")
    return None


def _split(authority: str) -> tuple[str, int | None] | None:
    """Return name and port of a Host header, None for what is none."""
    name, colon, port = authority.lower().rpartition(":")
    if not colon or authority.endswith("]"):
        name, port = authority.lower(), ""
        if ":" in name and not name.startswith("["):
            return None
    elif not (port.isascii() and port.isdigit() and len(port) < 6):
        return None
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not bare or any(c in bare for c in " /@\\[]%#?,"):
        return None
    return bare, int(port) if port else None


def _origin(headers: _Headers) -> Refusal | None:
    """Only the server's own pages may ask: Origin must be http or https of this very Host."""
    host = headers.every(b"host")[0].lower() if headers.every(b"host") else ""
    for origin in headers.every(b"origin"):
        if origin.lower() not in (f"http://{host}", f"https://{host}"):
            return Refusal(403, "this Origin may not use this server")
    site, mode = headers.one(b"sec-fetch-site"), headers.one(b"sec-fetch-mode")
    if site in ("cross-site", "same-site") and mode != "navigate":
        return Refusal(403, "a page of another site may not use this server")
    return None


def _method(scope: Scope) -> Refusal | None:
    if scope["type"] == "websocket" or scope["method"] in _METHODS:
        return None
    allowed = (b"allow", ", ".join(_METHODS).encode())
    return Refusal(405, f"methods are {', '.join(_METHODS)}", (allowed,))


def _key(headers: _Headers, rules: Rules) -> Refusal | None:
    """As a bearer token (clients) or as the password of HTTP Basic (browsers)."""
    if rules.key is None:
        return None
    expected = rules.key.encode()
    given = [_secret(value) for value in headers.every(b"authorization")]
    if len(given) == 1 and secrets.compare_digest(given[0], expected):
        return None
    challenge = (b"www-authenticate", b'Basic realm="quantale", charset="UTF-8"')
    return Refusal(401, "a valid API key is needed", (challenge,))


def _secret(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


async def _body(scope: Scope, receive: Receive, rules: Rules) -> Receive:
    """Read the whole body, at most as much as is allowed, and return a way to read it again."""
    headers = _Headers(scope)
    announced = headers.every(b"content-length")
    if not announced and not headers.every(b"transfer-encoding"):
        return receive
    if len(announced) > 1 or not all(size.isascii() and size.isdigit() for size in announced):
        raise _Refused(Refusal(400, "one Content-Length of digits was expected"))
    if announced and (len(announced[0]) > 12 or int(announced[0]) > rules.body_bytes):
        raise _Refused(_too_large(rules))
    try:
        body = await asyncio.wait_for(_whole(receive, rules), rules.body_seconds)
    except TimeoutError:
        raise _Refused(Refusal(408, "the body did not come in time")) from None
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


async def _whole(receive: Receive, rules: Rules) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(Refusal(400, "the client left"))
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > rules.body_bytes:
            raise _Refused(_too_large(rules))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _discard(receive: Receive, rules: Rules) -> None:
    """Read on for a while: a client that is still sending sees a reset in place of the answer."""
    left = _DISCARDED * rules.body_bytes
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _too_large(rules: Rules) -> Refusal:
    return Refusal(413, f"the body has more than {rules.body_bytes} bytes")


def _hardened(send: Send, seen: Callable[[int], None] | None) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            if seen is not None:
                seen(message["status"])
            there = {name.lower() for name, _ in message.get("headers", ())}
            more = [(name, value) for name, value in _HEADERS if name not in there]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


async def _answer(send: Send, refusal: Refusal) -> None:
    kind = "authentication_error" if refusal.status == 401 else "invalid_request_error"
    error = {"message": refusal.message, "type": kind, "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
