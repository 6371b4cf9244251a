"""Who is not let in: other hosts, other origins, other methods, no key, too much."""

import asyncio
import base64
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from quantale.core.errors import UsageError
from quantale.serve.guard import Guard, Receive, Rules, Scope, Send, rules_for

ROUTES = ("/health", "/metrics", "/docs", "/openapi.json", "/v1/models", "/anything")
BAD_HOSTS = (
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example:8000",
    "localhost.evil.example",
    "evil.example@127.0.0.1:8000",
    "127.0.0.1:8000@evil.example",
    "127.0.0.1:9999",
    "127.0.0.1:80800",
    "127.0.0.1:",
    "127.0.0.1:abc",
    "127.0.0.1:-1",
    "[::2]:8000",
    "::1",
    "0.0.0.0:8000",
    "127.0.0.2:8000",
    "2130706433:8000",
    "0x7f000001:8000",
    "localhost.:8000",
    "local host:8000",
    "localhost,evil.example",
    "localhost/evil",
    "xn--localhst-4za:8000",
    "169.254.169.254",
    "",
)
BAD_ORIGINS = (
    "null",
    "http://evil.example",
    "https://evil.example",
    "http://evil.example:8000",
    "http://127.0.0.1:8000.evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:3000",
    "http://localhost:8000",
    "http://[::1]:8000",
    "file://",
    "ftp://127.0.0.1:8000",
    "chrome-extension://abcdef",
    "http://user@127.0.0.1:8000",
    "http://127.0.0.1:8000/",
    "127.0.0.1:8000",
    "http://127.0.0.1:8000 http://evil.example",
    "https://127.0.0.1:8000#x",
    "http://0x7f.1:8000",
    "",
    "*",
)
BAD_METHODS = (
    "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "BREW", "get", "post",
)  # fmt: skip
OPEN = rules_for("127.0.0.1", 8000, None)
KEY = "k" * 20


class Inside:
    """An application that counts how often it was reached."""

    def __init__(self) -> None:
        self.calls, self.body = 0, b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        if scope["type"] == "http":
            self.body = (await receive()).get("body", b"")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"in"})


def ask(
    rules: Rules = OPEN,
    method: str = "GET",
    path: str = "/health",
    headers: Iterable[tuple[str, str]] = (),
    body: Any = None,
) -> tuple[httpx.Response, Inside]:
    inside = Inside()

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(inside, rules))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as one:
            return await one.request(method, path, headers=list(headers), content=body)

    return asyncio.run(go()), inside


def refused(status: set[int], **request: Any) -> None:
    answer, inside = ask(**request)
    assert answer.status_code in status, answer.text
    assert inside.calls == 0
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_another_host_is_refused_on_every_route(host: str) -> None:
    for path in ROUTES:
        refused({400, 421}, path=path, headers=[("host", host)])


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_another_origin_is_refused_on_every_route(origin: str) -> None:
    for path in ROUTES:
        refused({403}, path=path, headers=[("host", "127.0.0.1:8000"), ("origin", origin)])


@pytest.mark.parametrize("method", BAD_METHODS)
def test_another_method_is_refused_on_every_route(method: str) -> None:
    for path in ROUTES:
        scope = {"type": "http", "method": method, "path": path}
        status, calls = raw(scope, [(b"host", b"127.0.0.1:8000")])
        assert (status, calls) == (405, 0)


def raw(scope: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> tuple[Any, int]:
    """Hand a scope over as a server does; returns the status and how often it came through."""
    inside, sent = Inside(), []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(inside, OPEN)(scope | {"headers": headers}, receive, send))
    return sent[0].get("status", sent[0].get("code")) if sent else None, inside.calls


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"127.0.0.1:8000"), (b"host", b"evil.example")],
        [(b"host", b"127.0.0.1:8000"), (b"host", b"127.0.0.1:8000")],
        [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000"), (b"origin", b"x")],
        [(b"host", b"127.0.0.1:8000"), (b"sec-fetch-site", b"cross-site")],
        [(b"host", b"127.0.0.1:8000"), (b"sec-fetch-site", b"same-site")],
        [(b"HOST", b"\xff\xfe")],
    ],
)
def test_odd_heads_are_refused_for_requests_and_web_sockets(
    headers: list[tuple[bytes, bytes]],
) -> None:
    status, calls = raw({"type": "http", "method": "GET", "path": "/"}, headers)
    assert status in {400, 403, 421}
    assert calls == 0
    assert raw({"type": "websocket", "path": "/"}, headers) == (1008, 0)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("host", "localhost:8000")],
        [("host", "LOCALHOST")],
        [("host", "[::1]:8000")],
        [("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:8000")],
        [("host", "localhost:8000"), ("origin", "https://LocalHost:8000")],
        [("sec-fetch-site", "same-origin")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
    ],
)
def test_the_servers_own_names_are_let_in(headers: list[tuple[str, str]]) -> None:
    answer, inside = ask(headers=headers)
    assert (answer.status_code, inside.calls) == (200, 1)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_is_read_before_anything_else_runs_and_only_so_far() -> None:
    rules = Rules(OPEN.hosts, 8000, None, body_bytes=10)
    answer, inside = ask(rules, "POST", body=b"x" * 10)
    assert (answer.status_code, inside.body) == (200, b"x" * 10)
    refused({413}, rules=rules, method="POST", body=b"x" * 11)

    async def parts() -> Any:
        for _ in range(4):
            yield b"xxx"

    refused({413}, rules=rules, method="POST", body=parts())


@pytest.mark.parametrize("size", ["-1", "1e3", "99999999999999999999", "0x10", "١"])
def test_a_strange_length_is_refused(size: str) -> None:
    headers = [(b"host", b"127.0.0.1:8000"), (b"content-length", size.encode())]
    status, calls = raw({"type": "http", "method": "POST", "path": "/"}, headers)
    assert status in {400, 413}
    assert calls == 0


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    inside, sent = Inside(), []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    rules = Rules(OPEN.hosts, 8000, body_seconds=0.05)
    headers = [(b"host", b"localhost"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    asyncio.run(Guard(inside, rules)(scope, receive, send))
    assert (sent[0]["status"], inside.calls) == (408, 0)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.mark.parametrize("path", ROUTES)
def test_a_key_is_asked_for_on_every_route(path: str) -> None:
    rules = rules_for("0.0.0.0", 8000, KEY)
    for given in (
        None,
        "Bearer",
        "Bearer x",
        f"Bearer {KEY}x",
        KEY,
        basic("x"),
        "Basic !",
        "Basic gA==",
    ):
        headers = [] if given is None else [("authorization", given)]
        refused({401}, rules=rules, path=path, headers=headers)
    for given in (f"Bearer {KEY}", f"bearer {KEY}", basic(KEY)):
        assert ask(rules, path=path, headers=[("authorization", given)])[0].status_code == 200


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "example.org", "[::]"])
def test_an_address_that_others_reach_needs_a_key(address: str) -> None:
    with pytest.raises(UsageError, match="QUANTALE_API_KEY"):
        rules_for(address, 8000, None)
    assert rules_for(address, 8000, KEY).key == KEY


def test_a_short_key_is_refused_and_no_key_is_shown() -> None:
    with pytest.raises(UsageError, match="at least 16"):
        rules_for("127.0.0.1", 8000, "short")
    assert KEY not in repr(rules_for("127.0.0.1", 8000, KEY))


def test_a_name_given_for_a_proxy_is_let_in_on_any_port() -> None:
    rules = rules_for("0.0.0.0", 8000, KEY, names=["models.example"])
    headers = [("host", "models.example"), ("authorization", f"Bearer {KEY}")]
    assert ask(rules, headers=headers)[0].status_code == 200
    refused({421}, rules=rules, headers=[("host", "other.example")])
