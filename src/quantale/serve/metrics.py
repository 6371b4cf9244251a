"""What the server counts, in Prometheus' text format; a registry of its own."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from quantale.inference.engine import Engine
from quantale.inference.request import Ending

_FIRST = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
_TOKEN = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


class Metrics:
    """Counters of one server. Labels are names of its models and fixed words."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self.registry = CollectorRegistry()
        self._ended = self._counter("answers", "Answers by how they ended.", ["model", "reason"])
        self._statuses = self._counter("responses", "Responses by status.", ["status"])
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.", ["model"])
        self._new = self._counter("new_tokens", "Tokens written.", ["model"])
        self._first = self._histogram("first_token", "Until the first token.", _FIRST)
        self._token = self._histogram("token", "Mean time between tokens.", _TOKEN)
        busy = self._gauge("busy_slots", "Answers in work.")
        waiting = self._gauge("waiting_requests", "Answers waiting for a slot.")
        for name, engine in engines.items():
            busy.labels(name).set_function(partial(getattr, engine, "busy"))
            waiting.labels(name).set_function(partial(getattr, engine, "waiting"))

    def ended(self, model: str, ending: Ending) -> None:
        """Count one answer."""
        self._ended.labels(model, ending.reason).inc()
        self._prompt.labels(model).inc(ending.prompt_tokens)
        self._new.labels(model).inc(ending.new_tokens)
        if ending.first_token_seconds is not None:
            self._first.labels(model).observe(ending.first_token_seconds)
        if ending.seconds_per_token is not None:
            self._token.labels(model).observe(ending.seconds_per_token)

    def seen(self, status: int) -> None:
        """Count one response, those of the guard included."""
        self._statuses.labels(str(status)).inc()

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"quantale_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"quantale_{name}", text, ["model"], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        full = f"quantale_{name}_seconds"
        return Histogram(full, text, ["model"], buckets=buckets, registry=self.registry)
