"""Recipes that learn answers: what is trained on, scored and asked agree, in text and in chat."""

from pathlib import Path
from typing import Any

import pytest
from chat_tokenizer import chat_tokenizer
from shared_data import SHARED, needs_shared
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_file import Draft, ResolvedRecipe, load_recipe, resolve
from quantale.core.records import read_json, read_lines
from quantale.data.load import load_documents
from quantale.data.tokenizers import encode_batch
from quantale.quant.save import write_model
from quantale.stages.corpus import open_corpus
from quantale.stages.pipeline import run_recipe

SMALL = (
    "data.train_documents=60",
    "data.validation_documents=6",
    "data.test_documents=8",
    "data.length=128",
    "tokenizer.vocab_size=400",
    "model.layers=1",
    "model.heads=2",
    "model.width=16",
    "train.steps=4",
    "train.evaluate_every=2",
    "train.checkpoint_every=4",
    "train.warmup_steps=1",
    "train.batch_size=2",
    "evaluate.documents=4",
    "stories.prompts=3",
    "stories.new_tokens=12",
    "bench=null",
)


def test_stories_are_asked_for_as_they_were_taught(tmp_path: Path) -> None:
    asked = load_recipe("persona-tales", SMALL, "smoke")
    run_recipe(asked, tmp_path, only=None, resume=False, progress=Silent())
    summary = read_json(tmp_path / "train/summary.json")["data"]
    assert (summary["packing"], summary["loss_on"], summary["length"]) == ("pad", "text", 128)
    assert summary["documents"] == 60
    assert summary["cut"] > 0
    protocol = read_json(tmp_path / "evaluate/protocol.json")
    assert protocol["protocol"].startswith("answer(")
    prompts = read_lines(tmp_path / "stories/prompts.jsonl")
    test = open_corpus(asked.recipe).test
    given = {item.id: item.text[: item.answer] for item in test.items}
    assert prompts
    for prompt in prompts:
        assert prompt["given"] == given[prompt["id"]]
        assert prompt["given"].endswith("\n[STORY]:")
    stories = {item.text[item.answer :].strip() for item in test.items}
    assert sum(unit["bytes"] for unit in read_lines(tmp_path / "evaluate/documents.jsonl")
               if unit["model"] == "fp32") <= sum(len(s.encode()) + 1 for s in stories)  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.template=null"], "evaluate.protocol.*answers need a template"),
        (["stories.template=Ask {prompt}"], "stories.template.*should begin with"),
        (["data.loss_on=null", "data.chat=true"], "data.chat.*only a pretrained model"),
        (["data.answer=story"], "data.answer.*'story' is none of"),
        (["data.template=a {text"], "data.template.*stray brace"),
        (["data.classes=[a, b]"], "data.classes.*write label"),
        (["data.label=genre"], "evaluate.classification.*scored by its head"),
        (["data.length=900"], "data.length.*more than the model's context of 256"),
    ],
)
def test_sections_that_do_not_fit_are_refused(sets: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("persona-tales", sets, "smoke")


def chat_recipe(model: Path, data: Path) -> ResolvedRecipe:
    draft: dict[str, Any] = {
        "name": "chat",
        "data": {
            "source": f"{data}#answer", "template": "{question}\n{answer}", "chat": True,
            "packing": "pad", "split_by": "documents",
        },
        "tokenizer": {"kind": "pretrained"},
        "model": {"kind": "pretrained", "path": str(model)},
        "train": {
            "steps": 2, "batch_size": 2, "learning_rate": 1e-3, "min_learning_rate": 0.0,
            "warmup_steps": 0, "evaluate_every": 2, "checkpoint_every": 2,
        },
        "calibration": {"samples": 2, "length": 16},
        "variants": [{"name": "w4", "method": "gptq", "bits": 4, "group_size": 16}],
        "evaluate": {"protocol": "answer"},
        "bench": None,
    }  # fmt: skip
    return resolve(Draft(draft, {}), [], "here")


def test_a_chat_is_trained_calibrated_and_scored_as_it_is_written(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    write_model(LlamaForCausalLM(config), tokenizer, tmp_path / "model")
    rows = "".join(f"who is {i},the bear {i}\n" for i in range(30))
    (tmp_path / "a.csv").write_text(f"Question,Answer\n{rows}")
    asked, out = chat_recipe(tmp_path / "model", tmp_path / "a.csv"), tmp_path / "run"
    run_recipe(asked, out, only=None, resume=False, progress=Silent())
    assert read_json(out / "train/summary.json")["data"]["loss_on"] == "answer"
    (first, *_) = open_corpus(asked.recipe).test.items
    tail = encode_batch(tokenizer, [first.text[first.answer :]], marked=True)[0]
    assert tail[-1] == tokenizer.eos_token_id
    scored = {r["document"]: r["tokens"] for r in read_lines(out / "evaluate/documents.jsonl")}
    assert scored[first.id] == len(tail)
    assert read_json(out / "evaluate/protocol.json")["protocol"].startswith("answer(bos=0,")


@needs_shared
def test_prompt_and_answer_apart_are_the_tokens_of_the_whole_text() -> None:
    asked = load_recipe(
        "persona-tales", [f"data={SHARED}/persona_tales/dataset.csv#story"], "smoke"
    )
    items = open_corpus(asked.recipe).test.items[:60]
    assert len(items) > 40
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers/gpt2")
    whole = encode_batch(tokenizer, [item.text for item in items])
    apart = [
        first + rest
        for first, rest in zip(
            encode_batch(tokenizer, [item.text[: item.answer] for item in items]),
            encode_batch(tokenizer, [item.text[item.answer :] for item in items]),
            strict=True,
        )
    ]
    assert whole == apart


@needs_shared
def test_functions_of_code_search_net_are_documents() -> None:
    data = load_documents(f"{SHARED}/code_search_net/valid.jsonl#func_code_string", limit=5)
    assert all(item.text.startswith(("def ", "async def ")) for item in data.items)
    assert "func_documentation_string" in data.items[0].fields
