"""The list of routes, and the whole page behind its door without a browser."""

import gc
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from stub_writers import StubWriter

from quantale.serve.choices import WriterPage
from quantale.serve.guard import rules_for
from quantale.serve.page import writer_page
from quantale.serve.routes import is_needed
from quantale.serve.serving import page_app

KEY = "correct-horse-battery"
NEEDED = [("GET", "/"), ("GET", "/assets/index-Dph_1.js"), ("GET", "/gradio_api/queue/data"),
          ("POST", "/gradio_api/queue/join"), ("GET", "/theme.css")]  # fmt: skip
REFUSED = [
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:9/"),
    ("GET", "/gradio_api/file/x"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/gradio_api/call/write"),
    ("GET", "/monitoring"),
    ("GET", "/gradio_api/openapi.json"),
    ("POST", "/login"),
    ("POST", "/"),
    ("GET", "/assets/../../etc/passwd"),
    ("GET", "/static//etc/passwd/.."),
    ("PUT", "/"),
    ("DELETE", "/config"),
]


@pytest.mark.parametrize(("method", "path"), NEEDED)
def test_what_the_page_needs_is_there(method: str, path: str) -> None:
    assert is_needed(method, path)


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_what_the_page_does_not_need_is_not(method: str, path: str) -> None:
    assert not is_needed(method, path)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were looked up beyond this machine."""
    found: list[str] = []
    original = socket.getaddrinfo

    def spying(host: object, *more: object, **named: object) -> object:
        if host not in (None, "", "127.0.0.1", "localhost", "::1"):
            found.append(str(host))
            raise socket.gaierror("no network here")
        return original(host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", spying)
    return found


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_is_made_and_served_without_a_look_outside(
    tmp_path: Path, looked_up: list[str]
) -> None:
    page = WriterPage([StubWriter("one"), StubWriter("two")], tmp_path / "votes.jsonl")
    app = page_app(writer_page(page), rules_for("127.0.0.1", 80, KEY))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/").status_code == 401
        found = client.get("/", auth=("anybody", KEY))
        assert found.status_code == 200
        assert "connect-src 'self'" in found.headers["content-security-policy"]
        assert "fonts.googleapis" not in found.text
        assert client.get("/theme.css", auth=("x", KEY)).status_code == 200
        for method, path in REFUSED[:11]:
            assert client.request(method, path, auth=("x", KEY)).status_code == 404
        refused = client.get("/", auth=("x", KEY), headers={"Host": "evil.example"})
        assert refused.status_code == 421
    assert looked_up == []
    del client, app
    gc.collect()  # Gradio leaves a loop's socket pair to the collector: not in another test
