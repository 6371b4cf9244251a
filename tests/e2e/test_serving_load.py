"""Load: 16 streams for 30 s, and 64 clients on a short queue; no error, no cross-talk."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import torch
from serving import Served, served, tiny_chat

from quantale.inference.engine import Engine
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling

pytestmark = pytest.mark.slow

SECONDS, STREAMS, CLIENTS = 30, 16, 64
GROWTH = 16 << 20
"""Bytes: what the process may gain in the second half."""
TEXTS = 12


@pytest.fixture
def server() -> Iterator[Served]:
    torch.set_num_threads(1)
    with Engine(tiny_chat(), slots=8, queue=16, name="chat") as chat, served({"chat": chat}) as one:
        yield one


def asked(number: int) -> dict[str, Any]:
    """One of `TEXTS` requests, of unlike lengths."""
    kind = number % TEXTS
    prompt = [2 + (7 * kind + place) % 250 for place in range(1 + 3 * kind)]
    tokens = 16 + 4 * kind
    return {"model": "chat", "prompt": prompt, "seed": kind, "max_tokens": tokens, "stream": True}


def expected(server: Served) -> list[str]:
    """What each of them is answered when nobody else is there."""
    found = []
    for number in range(TEXTS):
        body = asked(number)
        request = Request(
            tuple(body["prompt"]), Sampling(1.0, seed=body["seed"]), body["max_tokens"]
        )
        stream = server.engines["chat"].submit(request)
        found.append("".join(piece.text for piece in stream))
    return found


async def read(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, str, str]:
    """Return status, text and the time to come back."""
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != 200:
            await answer.aread()
            return answer.status_code, answer.text, answer.headers.get("retry-after", "")
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "error" not in chunks[-1]
    return 200, "".join(chunk["choices"][0]["text"] for chunk in chunks), ""


def idle(server: Served) -> None:
    """Wait until nothing is written any more; a slot is freed a moment after its last piece."""
    engine, until = server.engines["chat"], time.monotonic() + 5
    while engine.busy or engine.waiting:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_16_streams_for_30_seconds(server: Served) -> None:
    texts, process = expected(server), psutil.Process()
    until = time.monotonic() + SECONDS
    memory: list[tuple[float, int]] = []
    count = 0

    async def reader(number: int, client: httpx.AsyncClient) -> None:
        nonlocal count
        while time.monotonic() < until:
            status, text, _ = await read(client, asked(number))
            assert (status, text) == (200, texts[number % TEXTS])
            count, number = count + 1, number + STREAMS + 1
            memory.append((time.monotonic(), process.memory_info().rss))

    async def all_of_them() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            await asyncio.gather(*(reader(number, client) for number in range(STREAMS)))

    asyncio.run(all_of_them())
    assert count >= STREAMS
    middle = [size for at, size in memory if at > until - SECONDS / 2]
    assert max(middle) - middle[0] < GROWTH
    idle(server)


def test_64_clients_on_a_short_queue_all_get_through_in_the_end(server: Served) -> None:
    texts = expected(server)
    refused = 0

    async def client_of(number: int, client: httpx.AsyncClient) -> None:
        nonlocal refused
        while True:
            status, text, after = await read(client, asked(number))
            if status == 200:
                assert text == texts[number % TEXTS]
                return
            assert status == 429
            assert 1 <= int(after) <= 60
            refused += 1
            await asyncio.sleep(min(int(after), 2))

    async def all_of_them() -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(client_of(number, client) for number in range(CLIENTS)))

    asyncio.run(all_of_them())
    assert refused >= CLIENTS / 4  # not all come at once on a busy machine
    idle(server)


def test_clients_that_leave_all_the_time_leave_nothing_behind(server: Served) -> None:
    texts = expected(server)

    async def leaver(number: int, client: httpx.AsyncClient) -> None:
        for turn in range(6):
            body = asked(number) | {"max_tokens": 200}
            async with client.stream("POST", "/v1/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    if line and turn % 2:
                        break

    async def all_of_them() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            await asyncio.gather(*(leaver(number, client) for number in range(STREAMS)))
            assert await read(client, asked(3)) == (200, texts[3], "")

    asyncio.run(all_of_them())
    idle(server)
