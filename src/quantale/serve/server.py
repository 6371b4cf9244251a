"""Run an application on an address until it is stopped."""

import socket
from collections.abc import Callable

import uvicorn

from quantale.core.errors import EnvironmentLackingError
from quantale.serve.guard import App

_LINGER_SECONDS = 5
_HEAD_BYTES = 32 << 10


def bind(address: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises EnvironmentLackingError."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(kind, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address.strip("[]"), port))
    except OSError as error:
        found.close()
        raise EnvironmentLackingError(
            f"cannot listen on {address} port {port}: {error.strerror}"
        ) from error
    found.listen(128)
    return found


def run(
    app: App,
    listening: socket.socket,
    started: Callable[[], None] | None = None,
    *,
    has_lifespan: bool = False,
) -> None:
    """Serve until a signal asks to stop; answers in work get a few seconds.

    has_lifespan: whether the application wants to be told that serving begins, as Gradio does.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on" if has_lifespan else "off",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        http="h11",
        ws="none",
        timeout_graceful_shutdown=_LINGER_SECONDS,
    )
    if started is not None:
        started()
    uvicorn.Server(config).run(sockets=[listening])
