"""Schemathesis reads the OpenAPI schema and asks for all it describes; nothing makes a 5xx."""

import warnings
from collections import Counter
from typing import Any

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, given, settings
from serving import tiny_chat

from quantale.inference.engine import Engine
from quantale.serve.api import unguarded
from quantale.serve.metrics import Metrics

EXAMPLES = 60


@pytest.fixture(scope="module")
def engine() -> Any:
    torch.set_num_threads(1)
    with Engine(tiny_chat(), slots=4, queue=16, context=64, name="chat") as made:
        yield made


def test_nothing_that_the_schema_describes_makes_the_server_fail(engine: Engine) -> None:
    """Every other case asks for the model that is there, so that it gets further."""
    engines = {"chat": engine}
    schema = schemathesis.openapi.from_asgi("/openapi.json", unguarded(engines, Metrics(engines)))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 6
    for operation in operations:
        seen = _statuses(operation)
        assert max(seen) < 500
        assert len(seen) > 1 or operation.method == "get", (operation.path, seen)


def _statuses(operation: Any) -> Counter[int]:
    seen: Counter[int] = Counter()

    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and sum(seen.values()) % 2:
            case.body["model"] = "chat"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen[case.call().status_code] += 1

    asking = given(case=operation.as_strategy())(ask)
    settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )(asking)()
    return seen
