"""Votes are found beside a run, by what the models are."""

import json
from pathlib import Path

from tiny_models import tiny_gpt2, tiny_nanogpt

from quantale.stages.quantize import source_of
from quantale.stages.voted import voted_on, votes_beside


def test_votes_on_other_models_are_left_out_and_names_are_the_runs(tmp_path: Path) -> None:
    folders = {"fp32": tmp_path / "x" / "model", "w4": tmp_path / "y" / "model"}
    for folder, make in zip(folders.values(), (tiny_gpt2, tiny_nanogpt), strict=True):
        make().save_pretrained(folder)
    digests = [source_of(str(folder)).digest for folder in folders.values()]
    shown = {"x/model": digests[0], "y/model": digests[1]}
    lines = [
        {"a": "y/model", "b": "x/model", "choice": "b", "sha256": shown},
        {"a": "y/model", "b": "z", "choice": "b", "sha256": {**shown, "z": "00"}},
    ]
    path = tmp_path / "votes.jsonl"
    assert votes_beside(tmp_path / "compare") is None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert votes_beside(tmp_path / "compare") == path
    (one,) = voted_on(path, folders)
    assert (one.first, one.second, one.wins, one.n) == ("fp32", "w4", (1, 0), 1)
