"""Healing by command and the ladder: rungs in order, the first that passes, and its sealed copy."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_recipes import run_until, tiny_recipe

from quantale.core.errors import DataError, UsageError
from quantale.core.files import verify
from quantale.core.progress import Silent
from quantale.core.records import read_json
from quantale.core.run import open_run
from quantale.evaluation.stats import Verdict
from quantale.models.adapter_record import read_record
from quantale.models.load import load
from quantale.quant.linear import PackedModule
from quantale.quant.proof import logits_digest
from quantale.stages.heal import Budget, heal_model
from quantale.stages.ladder import ladder
from quantale.stages.requests import HealRequest, LadderRequest
from quantale.stages.rungs import rungs


class Judged(NamedTuple):
    """What the statistics say of a rung."""

    verdict: Verdict


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    run_until(
        tiny_recipe({"name": "packed", "method": "hqq", "bits": 1, "group_size": 16}),
        out,
        "quantize",
    )
    return out


def test_a_healed_model_is_sealed_verified_and_of_the_same_size(made: Path, tmp_path: Path) -> None:
    request = HealRequest(
        str(made / "quantize/packed"), str(made / "train/model"), "storygen[:60]", steps=4,
        batch_size=2,
    )  # fmt: skip
    result = heal_model(request, tmp_path / "healed", resume=False, progress=Silent())
    verify(tmp_path / "healed", full=True)
    assert result["bytes_resident"] == result["bytes_resident_before"]
    assert logits_digest(load(result["out"]).model) == result["logits_sha256"]
    assert result["best_step"] > 0
    assert result["trainable_parameters"] > 0


def request_of(made: Path, loss: float, **changes: object) -> LadderRequest:
    return LadderRequest(
        str(made / "train/model"),
        "storygen[:60]",
        "1",
        loss,
        steps=2,
        documents=6,
        batch_size=2,
        **changes,  # type: ignore[arg-type]
    )


def test_it_stops_at_the_first_rung_that_loses_little_enough(made: Path, tmp_path: Path) -> None:
    result = ladder(request_of(made, 1e6), tmp_path / "out", resume=False, progress=Silent())
    assert (result["chosen"], result["met"], len(result["rungs"])) == ("ptq", True, 1)
    (row,) = result["rungs"]
    assert row["verdict"] == "PASS"
    assert row["rise_low"] <= row["rise"] <= row["rise_high"]
    verify(tmp_path / "out/chosen", full=True)
    assert read_json(tmp_path / "out/chosen/ladder.json")["rungs"] == result["rungs"]
    model = load(result["out"]).model
    assert any(isinstance(module, PackedModule) for module in model.modules())
    assert logits_digest(model) == logits_digest(load(tmp_path / "out/rungs/ptq").model)


def test_without_a_rung_that_passes_the_best_one_is_kept_and_told(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantale.stages.ladder.judge", lambda *_: Judged(Verdict.FAIL))
    asked = request_of(made, 1e-9, stop_after="adapters")
    result = ladder(asked, tmp_path / "out", resume=False, progress=Silent())
    assert not result["met"]
    assert [row["rung"] for row in result["rungs"]] == ["ptq", "scales", "heal", "adapters"]
    sizes = [row["bytes_on_disk"] for row in result["rungs"]]
    assert sizes[1] == sizes[2] < sizes[3]  # an adapter lies beside the healed model
    assert len({row["bits_per_weight"] for row in result["rungs"]}) == 1
    own = read_json(tmp_path / "out/rungs/adapters/run.json")["parents"]["model"]
    assert own == open_run(tmp_path / "out/rungs/heal").digest
    best = min(result["rungs"], key=lambda row: float(row["rise"]))
    assert result["chosen"] == best["rung"]
    again = ladder(asked, tmp_path / "out", resume=False, progress=Silent())
    assert again["chosen"] == result["chosen"]


def test_an_adapter_is_chosen_together_with_what_it_lies_over(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [rung for rung in rungs("1", Budget(2, 2)) if rung.name in ("heal", "adapters")]
    monkeypatch.setattr("quantale.stages.ladder.rungs", lambda *_: listed)
    verdicts = iter([Verdict.FAIL, Verdict.PASS])
    monkeypatch.setattr("quantale.stages.ladder.judge", lambda *_: Judged(next(verdicts)))
    result = ladder(request_of(made, 1.0), tmp_path / "out", resume=False, progress=Silent())
    assert (result["chosen"], result["met"]) == ("adapters", True)
    shutil.rmtree(tmp_path / "out/rungs")  # it stands by itself
    verify(tmp_path / "out/chosen", full=True)
    assert read_record(tmp_path / "out/chosen/model").base == "../base"
    assert any("lora_" in name for name, _ in load(result["out"]).model.named_parameters())


def test_what_there_is_not_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"bits are 1, 1.58, 2.*'9' came"):
        rungs("9", Budget(1, 1))
    asked = request_of(made, 1.0, stop_after="heel")
    with pytest.raises(UsageError, match="did you mean 'heal'"):
        ladder(asked, tmp_path / "out", resume=False, progress=Silent())
    few = tmp_path / "few.txt"
    few.write_text("<|endoftext|>".join(f"A story of {number} words." for number in range(40)))
    asked = LadderRequest(str(made / "train/model"), str(few), "1", 1.0)
    with pytest.raises(DataError, match="validation documents; the ladder needs"):
        ladder(asked, tmp_path / "out", resume=False, progress=Silent())
