"""What every tuning method owes its users, whichever plug-in it is."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from plugin_cases import is_frozen
from tuning_cases import (
    batch_of,
    finished,
    interrupted,
    start_of,
    tensors_of,
    trained,
    tuning_cases,
)

from quantale.core.errors import UsageError
from quantale.core.registry import TUNINGS
from quantale.models.load import load
from quantale.tuning.method import Order, Start, Tuning

CASES = tuning_cases()
every_method = pytest.mark.parametrize("tuning", [c[1] for c in CASES], ids=[c[0] for c in CASES])
every_name = pytest.mark.parametrize("name", TUNINGS.names())


@every_name
def test_it_is_a_frozen_dataclass_with_an_order_and_a_docstring(name: str) -> None:
    kind = TUNINGS.get(name)
    assert is_frozen(kind)
    assert {case.order for _, case in CASES if type(case) is kind} <= set(get_args(Order))
    assert inspect.getdoc(inspect.getmodule(kind))
    assert isinstance(kind.needs_teacher, bool | property)


@every_name
def test_every_setting_is_explained_where_it_is_declared(name: str) -> None:
    kind = TUNINGS.get(name)
    source = inspect.getsource(kind)
    for field in dataclasses.fields(kind):
        explained = rf"^    {field.name}: [^\n]+\n    \"\"\"\S"
        assert re.search(explained, source, re.MULTILINE), f"{name}.{field.name}"


@every_method
def test_it_changes_what_it_trains_and_nothing_else(tuning: Tuning, tmp_path: Path) -> None:
    start = start_of(tuning)
    seen = {} if start.teacher is None else tensors_of(start.teacher)
    taught = {name: tensor.clone() for name, tensor in seen.items()}
    work = tuning.begin(start)
    free = work.objective.trainable(work.model)
    assert free
    assert all(weight.requires_grad for weight in free.values())
    ids = {id(weight) for weight in free.values()}
    frozen = {n: t.clone() for n, t in tensors_of(work.model).items() if id(t) not in ids}
    before = {name: weight.detach().clone() for name, weight in free.items()}
    trained(work, tmp_path / "run")
    assert any(not torch.equal(weight, before[name]) for name, weight in free.items())
    after = tensors_of(work.model)
    assert [n for n, t in frozen.items() if not torch.equal(t, after[n])] == []
    assert [n for n, t in taught.items() if not torch.equal(t, seen[n])] == []


@every_method
def test_a_stopped_training_resumes_to_the_same_bytes(tuning: Tuning, tmp_path: Path) -> None:
    torch.manual_seed(1)
    finished(tuning, tmp_path / "whole")
    interrupted(tuning, tmp_path / "stopped")
    torch.manual_seed(2)
    finished(tuning, tmp_path / "stopped")
    files = [p for p in (tmp_path / "whole/model").rglob("*") if p.suffix == ".safetensors"]
    assert files
    for path in (tmp_path / "whole/metrics.jsonl", *files):
        twin = tmp_path / "stopped" / path.relative_to(tmp_path / "whole")
        assert twin.read_bytes() == path.read_bytes(), path.name


@every_method
def test_the_finished_model_reloads_with_the_same_logits(tuning: Tuning, tmp_path: Path) -> None:
    model = finished(tuning, tmp_path / "run")
    again = load(tmp_path / "run" / "model").model
    tokens = batch_of(7).inputs
    with torch.no_grad():
        ours, theirs = (one.eval()(input_ids=tokens).logits for one in (model, again))
    assert torch.isfinite(ours).all()
    assert torch.equal(ours, theirs)


@every_method
def test_one_that_works_within_the_quantization_says_what_it_lacks(tuning: Tuning) -> None:
    if tuning.order != "within":
        return
    with pytest.raises(UsageError, match="needs a method"):
        tuning.begin(Start(start_of(tuning).model))
