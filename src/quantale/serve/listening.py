"""Serve an application on an address until it is stopped."""

import socket
from collections.abc import Callable

import uvicorn

from quantale.core.errors import EnvironmentLackingError
from quantale.serve.guard import App, Rules, rules_for

_PATIENCE = 2  # seconds that open streams get to end


def listen(
    make: Callable[[Rules], App],
    address: str,
    port: int,
    *,
    key: str | None,
    body_bytes: int,
    ready: Callable[[str], None],
) -> None:
    """Bind, make the application for the bound port, say where it is, and serve.

    port: 0 takes a free one. Raises UsageError for an address that others reach without a key, and
    EnvironmentLackingError for a port that cannot be had.
    """
    rules_for(address, port, key)
    with bound(address, port) as listener:
        own = int(listener.getsockname()[1])
        app = make(rules_for(address, own, key, body_bytes=body_bytes))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE,
        )
        ready(f"http://{f'[{address}]' if ':' in address else address}:{own}/")
        uvicorn.Server(config).run(sockets=[listener])


def bound(address: str, port: int) -> socket.socket:
    """Return a socket that listens; raises EnvironmentLackingError where that cannot be."""
    try:
        kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=socket.AddressFamily(kind))
    except OSError as error:
        reason = error.strerror or error
        raise EnvironmentLackingError(
            f"cannot listen on {address}, port {port}: {reason}; choose another --port"
        ) from error
