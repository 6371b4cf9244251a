"""The OpenAI-style server: routes, and how a request becomes an answer."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from quantale import __version__
from quantale.core.errors import QuantaleError
from quantale.inference.engine import Engine
from quantale.inference.request import Ending, Piece
from quantale.inference.stream import Stream
from quantale.serve import faults
from quantale.serve.answering import collect, events, submit_all
from quantale.serve.asked import Asked, ChatAsked, CompletionAsked
from quantale.serve.faults import Fault
from quantale.serve.guard import Guard, Rules
from quantale.serve.metrics import Metrics
from quantale.serve.prompts import chat_requests, completion_requests, prompt_text
from quantale.serve.shapes import Shape, usage_of

_GONE = 499
"""What proxies log for a client that left; nobody reads it."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is wrong."},
    404: {"description": "There is no such model."},
    429: {"description": "All slots are busy and the queue is full; see Retry-After."},
}


def make_api(engines: Mapping[str, Engine], rules: Rules) -> Guard:
    """Return the application behind its guard."""
    metrics = Metrics(engines)
    return Guard(unguarded(engines, metrics), rules, metrics.seen)


def unguarded(engines: Mapping[str, Engine], metrics: Metrics) -> FastAPI:
    """Return the routes alone; never serve them like that."""
    app = FastAPI(
        title="Quantale",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        description="Completions and chats in the shape of OpenAI's API.",
    )
    faults.install(app)
    Routes(engines, metrics).add_to(app)
    return app


class Routes:
    """The routes over some engines."""

    def __init__(self, engines: Mapping[str, Engine], metrics: Metrics) -> None:
        self._engines, self._metrics = engines, metrics
        self._started = int(time.time())

    def add_to(self, app: FastAPI) -> None:
        """Add all routes."""
        app.get("/v1/models")(self.models)
        app.get("/v1/models/{name:path}", responses={404: _ERRORS[404]})(self.model)
        app.post("/v1/completions", responses=_ERRORS)(self.completions)
        app.post("/v1/chat/completions", responses=_ERRORS)(self.chat)
        app.get("/health")(self.health)
        app.get("/metrics")(self.metrics)
        app.get("/docs", include_in_schema=False)(self.docs)

    async def models(self) -> dict[str, Any]:
        """List the models."""
        return {"object": "list", "data": [self._card(name) for name in self._engines]}

    async def model(self, name: str) -> dict[str, Any]:
        """Describe one model."""
        self._engine(name)
        return self._card(name)

    async def completions(self, asked: CompletionAsked, http: HttpRequest) -> Response:
        """Continue texts."""
        engine = self._engine(asked.model)
        requests = completion_requests(asked, engine)
        prefixes: list[str] = []
        if asked.echo:
            prefixes = [prompt_text(engine, p) for p in asked.prompt for _ in range(asked.n)]
        shape = Shape(
            asked.model, engine.tokenizer, False, asked.logprobs is not None, tuple(prefixes)
        )
        return await self._answer(asked, shape, submit_all(engine, requests), http)

    async def chat(self, asked: ChatAsked, http: HttpRequest) -> Response:
        """Answer in a chat."""
        engine = self._engine(asked.model)
        requests = chat_requests(asked, engine)
        shape = Shape(asked.model, engine.tokenizer, True, asked.logprobs)
        return await self._answer(asked, shape, submit_all(engine, requests), http)

    async def health(self) -> Response:
        """Say whether all models can be asked."""
        dead = [name for name, engine in self._engines.items() if not engine.is_alive]
        body = {"status": "failed" if dead else "ok", "models": len(self._engines)}
        return JSONResponse(body, status_code=503 if dead else 200)

    async def metrics(self) -> Response:
        """Return the counters for Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def docs(self) -> Response:
        """Name the routes; plain text, since a page would load scripts from elsewhere."""
        lines = ["Quantale", *(f"  model {name}" for name in self._engines), ""]
        lines += ["GET  /v1/models", "POST /v1/completions", "POST /v1/chat/completions"]
        lines += ["GET  /health", "GET  /metrics", "GET  /openapi.json"]
        return PlainTextResponse("\n".join(lines) + "\n")

    def _engine(self, name: str) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            listed = ", ".join(self._engines)
            raise Fault(
                f"there is no model {name[:100]!r}; there are {listed}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return engine

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "quantale"}

    async def _answer(
        self, asked: Asked, shape: Shape, streams: list[Stream], http: HttpRequest
    ) -> Response:
        def ended(ending: Ending) -> None:
            self._metrics.ended(asked.model, ending)

        if asked.stream:
            lines = _lines(asked, shape, streams, events(streams, http, ended))
            return StreamingResponse(lines, media_type="text/event-stream")
        answers = await collect(streams, http, ended)
        if len(answers) < len(streams):
            return Response(status_code=_GONE)
        return JSONResponse(shape.whole(answers, asked.n))


async def _lines(
    asked: Asked,
    shape: Shape,
    streams: list[Stream],
    coming: AsyncIterator[tuple[int, Piece | Ending]],
) -> AsyncIterator[bytes]:
    """Yield server-sent events; a failure in the middle is an event too."""
    endings: dict[int, Ending] = {}
    offsets = [len(prefix) for prefix in shape.prefixes] or [0] * len(streams)
    for number in range(len(streams)):
        opening = shape.opening(number)
        if opening is not None:
            yield _line(opening)
    try:
        async for number, event in coming:
            if isinstance(event, Ending):
                endings[number] = event
                yield _line(shape.closing(number, event))
                continue
            chunk = shape.piece(number, event, offsets[number])
            offsets[number] += len(event.text)
            if chunk is not None:
                yield _line(chunk)
    except QuantaleError as error:
        yield _line(faults.body_of(str(error), faults.kind_of(error)[1]))
    if asked.stream_options is not None and asked.stream_options.include_usage:
        counted = [endings[number] for number in sorted(endings)]
        yield _line(shape.counts(usage_of(counted, asked.n)))
    yield b"data: [DONE]\n\n"


def _line(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=True).encode() + b"\n\n"
