"""Schemathesis reads the OpenAPI schema and asks for all it describes; nothing makes a 5xx."""

import warnings
from typing import Any

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, settings
from serving import tiny_chat

from quantale.inference.engine import Engine
from quantale.serve.api import unguarded
from quantale.serve.metrics import Metrics

EXAMPLES = 40


@pytest.fixture(scope="module")
def engine() -> Any:
    torch.set_num_threads(1)
    with Engine(tiny_chat(), slots=4, queue=16, context=64, name="chat") as made:
        yield made


@pytest.fixture
def api(engine: Engine) -> Any:
    engines = {"chat": engine}
    return schemathesis.openapi.from_asgi("/openapi.json", unguarded(engines, Metrics(engines)))


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_nothing_makes_the_server_fail(case: Any) -> None:
    """Half of the cases ask for the model that is there, so that they get further."""
    body = case.body
    if isinstance(body, dict) and len(str(body.get("model"))) % 2:
        body["model"] = "chat"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert case.call().status_code < 500
