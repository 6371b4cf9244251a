"""Which of Gradio's routes the page needs, and the headers that every answer carries.

Gradio brings routes for uploads, files of the disk, proxied requests, monitoring and more. What the
page does not need is not there: 404 before Gradio sees the request. The content policy lets a
browser talk to nothing but this server; Gradio's own scripts need inline code and `eval`.
"""

import re

from quantale.serve.guard import App, Message, Receive, Scope, Send

_ASSETS = r"/(assets|static|svelte)/[\w@/.~+-]+"
_READ = re.compile(
    rf"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|{_ASSETS}"
    r"|/gradio_api/(info/?|startup-events|theme\.css|queue/data|heartbeat/\w{1,64})"
)
_SENT = re.compile(r"/gradio_api/(queue/join|run/predict|cancel|reset)/?")
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = ((b"content-security-policy", _POLICY.encode()),)


def is_needed(method: str, path: str) -> bool:
    """Say whether the page needs a route."""
    if ".." in path:
        return False
    needed = {"GET": _READ, "HEAD": _READ, "POST": _SENT}.get(method)
    return needed is not None and needed.fullmatch(path) is not None


class PageRoutes:
    """ASGI: passes what the page needs and adds the headers; everything else is 404."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            raise RuntimeError(f"the page has no {scope['type']} routes")
        elif is_needed(scope["method"], scope["path"]):
            await self._app(scope, receive, _with_headers(send))
        else:
            await _not_there(_with_headers(send))


def _with_headers(send: Send) -> Send:
    own = {name for name, _ in HEADERS}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in own]
            message["headers"] = [*kept, *HEADERS]
        await send(message)

    return sending


async def _not_there(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"not found\n"})
