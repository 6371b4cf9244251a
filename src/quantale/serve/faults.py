"""Errors in the shape that OpenAI's clients read."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from quantale.core.errors import DataError, QuantaleError, UsageError
from quantale.inference.request import QueueFull

_SHOWN = 3


class Fault(Exception):  # noqa: N818  (an answer; the client makes an error of it)
    """An answer that says what was wrong with a request."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code


def install(app: FastAPI) -> None:
    """Answer every error of the routes in this shape."""
    app.add_exception_handler(Fault, _of_fault)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(QueueFull, _of_queue)
    app.add_exception_handler(QuantaleError, _of_engine)


def body_of(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: Any = None
) -> dict[str, Any]:
    """Return the JSON object of an error."""
    return {"error": {"message": _clean(message), "type": kind, "param": param, "code": code}}


def kind_of(error: QuantaleError) -> tuple[int, str]:
    """Return status and type of an error from below: the asker's fault, or the server's."""
    if isinstance(error, DataError | UsageError):
        return 400, "invalid_request_error"
    return 500, "server_error"


def _answer(status: int, body: Mapping[str, Any], headers: Any = None) -> JSONResponse:
    return JSONResponse(body, status_code=status, headers=headers)


async def _of_fault(_: Request, fault: Exception) -> JSONResponse:
    assert isinstance(fault, Fault)
    param = None if fault.param is None else _clean(fault.param)
    return _answer(fault.status, body_of(fault.message, param=param, code=fault.code))


async def _of_validation(_: Request, error: Exception) -> JSONResponse:
    """Name the first fields that are wrong; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    places = [".".join(map(str, one["loc"][1:])) for one in found[:_SHOWN]]
    lines = [f"{place}: {one['msg']}" for place, one in zip(places, found, strict=False)]
    param = _clean(places[0]) if places and places[0] else None
    return _answer(400, body_of("; ".join(lines), param=param))


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, body_of(str(error.detail)), error.headers)


async def _of_queue(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueFull)
    body = body_of(str(error), "rate_limit_error", code="queue_full")
    return _answer(429, body, {"Retry-After": str(error.retry_after)})


async def _of_engine(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QuantaleError)
    status, kind = kind_of(error)
    return _answer(status, body_of(str(error), kind))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:1000]
