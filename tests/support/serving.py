"""Tiny models behind engines and servers."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvicorn
from chat_tokenizer import chat_tokenizer
from tiny_models import VOCABULARY, spread

from quantale.data.tokenizers import train_characters
from quantale.inference.engine import Engine
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.models.build import build_model
from quantale.models.load import LoadedModel
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.serve.api import make_api
from quantale.serve.guard import Rules
from quantale.serve.server import bind

GREEDY = Sampling(0.0)


def ascii_tokenizer() -> Any:
    """94 characters and two symbols: the vocabulary of the tiny models. 0 begins and ends."""
    tokenizer = train_characters(["".join(map(chr, range(32, 126)))])
    assert len(tokenizer) == VOCABULARY
    return tokenizer


def loaded(model: Any, tokenizer: Any = None) -> LoadedModel:
    return LoadedModel(model, tokenizer or ascii_tokenizer(), Path("tiny"))


def tiny_chat(seed: int = 5, context: int = 256, width: int = 32) -> LoadedModel:
    """A nanoGPT with a chat template."""
    tokenizer = chat_tokenizer()
    config = NanoGPTConfig(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=width,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LoadedModel(spread(build_model(config, seed=seed).eval()), tokenizer, Path("chat"))


def requests(count: int, new_tokens: int = 20, seed: int = 1) -> list[Request]:
    """Requests of unlike length and sampling; every other one is greedy."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        size = int(torch.randint(1, 20, (1,), generator=generator))
        tokens = torch.randint(2, VOCABULARY, (size,), generator=generator).tolist()
        top_k, top_p = (None, 20)[number % 4 // 2], (None, 0.9)[number % 3 // 2]
        sampling = Sampling(0.9, top_k, top_p, number) if number % 2 else GREEDY
        found.append(Request(tuple(tokens), sampling, new_tokens))
    return found


def tokens_of(engine: Engine, request: Request) -> list[int]:
    return [piece.token for piece in engine.submit(request)]


@dataclass(frozen=True)
class Served:
    url: str
    port: int
    engines: Mapping[str, Engine]


@contextlib.contextmanager
def served(engines: Mapping[str, Engine], key: str | None = None) -> Iterator[Served]:
    """Serve over a real socket, in a thread."""
    with bind("127.0.0.1", 0) as listening:
        port = int(listening.getsockname()[1])
        rules = Rules(frozenset({"127.0.0.1", "localhost"}), port, key)
        config = uvicorn.Config(
            make_api(engines, rules),
            log_level="warning",
            lifespan="off",
            http="h11",
            ws="none",
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield Served(f"http://127.0.0.1:{port}", port, engines)
        finally:
            server.should_exit = True
            thread.join(20)
