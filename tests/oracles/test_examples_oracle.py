"""Targets and masks against a slow reference: every packing, loss, boundary and length policy."""

import itertools
import random
from typing import Any

import pytest
import torch
from chat_tokenizer import LETTERS, chat_tokenizer, letters
from tiny_models import tiny_gpt2, tiny_llama, tiny_nanogpt
from torch.nn import functional

from quantale.core.recipe_data import DataSection
from quantale.core.recipe_training import TrainSection
from quantale.core.templates import Template
from quantale.data.batch import UNSCORED, Batch
from quantale.data.documents import Document, Documents
from quantale.data.examples import Example
from quantale.data.packing import pad
from quantale.data.templates import MODEL_ROLE, fill_chat
from quantale.stages.corpus import Corpus
from quantale.stages.training_data import training_data
from quantale.tuning.losses import label_loss, logits_of
from quantale.tuning.settings import TrainData

LENGTH, BATCH = 12, 2
SECTION: dict[str, Any] = {
    "steps": 1,
    "batch_size": BATCH,
    "learning_rate": 1e-3,
    "min_learning_rate": 0.0,
    "warmup_steps": 0,
    "evaluate_every": 1,
    "checkpoint_every": 1,
}
Pair = tuple[int, bool]
"""A token, and whether it is learnt."""


def texts(count: int = 9, longest: int = 30) -> list[tuple[str, str]]:
    """Prompts and answers, some of them empty, some longer than a row."""
    draw = random.Random(3)
    sizes = [(draw.randrange(1, 6), draw.randrange(1, longest)) for _ in range(count)]
    sizes[2], sizes[5] = (LENGTH + 4, 3), (1, 1)
    return [tuple("".join(draw.choices("abcdefgh", k=n)) for n in pair) for pair in sizes]  # type: ignore[misc]


def documents(pairs: list[tuple[str, str]], split: str = "train") -> Documents:
    items = (Document(p + a, f"{split}/{i}", answer=len(p)) for i, (p, a) in enumerate(pairs))
    return Documents.collect(items, "test", split)


def read(packing: str, learnt: str, too_long: str, tokenizer: Any, **more: Any) -> TrainData:
    data = DataSection(
        template="{question}{text}",
        loss_on=learnt,  # type: ignore[arg-type]
        packing=packing,  # type: ignore[arg-type]
        too_long=too_long,  # type: ignore[arg-type]
        length=LENGTH,
    )
    pairs = texts()
    corpus = Corpus(documents(pairs), documents(pairs, "validation"), documents(pairs), data)
    section = TrainSection(**SECTION | more)
    return training_data(section, corpus, tokenizer, 64, seed=4)


def reference(tokenizer: Any, learnt: str, too_long: str) -> list[list[Pair]]:
    """Every document as its tokens with the boundaries, after the length filter, one by one."""
    code = {symbol: i + 3 for i, symbol in enumerate(LETTERS)}
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else 1
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    found = []
    for prompt, answer in texts():
        row = [(begin, False)]
        row += [(code[c], learnt == "text") for c in prompt]
        row += [(code[c], True) for c in answer]
        row += [(end, True)]
        if len(row) > LENGTH + 1 and too_long == "drop":
            continue
        if too_long == "cut":
            row = row[: LENGTH + 1]
        if any(is_learnt for _, is_learnt in row[1:]):
            found.append(row)
    return found


def pieces(row: list[Pair]) -> list[list[Pair]]:
    """A document in rows of at most LENGTH inputs; rows with nothing to learn are left out."""
    found = []
    while len(row) > 1:
        if any(is_learnt for _, is_learnt in row[1 : LENGTH + 1]):
            found.append(row[: LENGTH + 1])
        row = row[LENGTH:]
    return found


def row_of(batch: Batch, row: int) -> list[Pair]:
    """A row as pairs again, filling left out; the first token counts as not learnt."""
    size = batch.inputs.shape[1] if batch.mask is None else int(batch.mask[row].sum())
    inputs = batch.inputs[row, :size].tolist()
    targets = batch.targets[row].tolist()
    assert set(targets[size:]) <= {UNSCORED}
    for token, target in zip(inputs[1:], targets, strict=False):
        assert target in (token, UNSCORED)
    flags = [False, *(target != UNSCORED for target in targets[:size])]
    last = targets[size - 1]
    return list(zip([*inputs, last], flags, strict=True))


BOUNDARIES = [("<s>", "</s>"), ("</s>", "</s>"), (None, "</s>"), ("<s>", None)]
LEARNT, POLICIES = ("text", "answer"), ("drop", "cut", "split")


@pytest.mark.parametrize(
    ("learnt", "too_long", "bounds"), list(itertools.product(LEARNT, POLICIES, BOUNDARIES))
)
def test_filled_up_rows_are_the_documents(learnt: str, too_long: str, bounds: Any) -> None:
    tokenizer = letters(*bounds)
    data = read("pad", learnt, too_long, tokenizer)
    wanted = [
        [(row[0][0], False), *row[1:]]
        for document in reference(tokenizer, learnt, too_long)
        for row in pieces(document)
    ]
    steps = range(len(wanted))  # BATCH rows a step: BATCH epochs
    found = [row_of(data.batches(step), row) for step in steps for row in range(BATCH)]
    assert sorted(found) == sorted(wanted * BATCH)
    if learnt == "answer":
        assert any(not flag for row in found for _, flag in row[1:])
    assert data.record["documents"] == len(texts())
    assert data.record["dropped"] == len(texts()) - len(reference(tokenizer, learnt, too_long))
    assert data.record["scored_tokens"] == sum(flag for row in wanted for _, flag in row)


def ring(tokenizer: Any, learnt: str, too_long: str) -> list[Pair]:
    """The documents end to end; an end and the next beginning that are equal are one token."""
    rows = reference(tokenizer, learnt, too_long)
    whole = [row for row in rows if row]
    found: list[Pair] = []
    for number, row in enumerate(whole):
        before = whole[number - 1]
        is_cut = too_long == "cut" and before[-1][0] != before_end(tokenizer)
        merged = before[-1][0] == row[0][0] and not is_cut
        found += [(row[0][0], merged), *row[1:]]
        nxt = whole[(number + 1) % len(whole)]
        own_cut = too_long == "cut" and row[-1][0] != before_end(tokenizer)
        if row[-1][0] == nxt[0][0] and not own_cut:
            found.pop()
    return found


def before_end(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0)


@pytest.mark.parametrize("packing", ["stream", "document"])
@pytest.mark.parametrize(
    ("learnt", "too_long", "bounds"), list(itertools.product(LEARNT, POLICIES, BOUNDARIES))
)
def test_windows_are_slices_of_the_ring_of_documents(
    packing: str, learnt: str, too_long: str, bounds: Any
) -> None:
    tokenizer = letters(*bounds)
    wanted = ring(tokenizer, learnt, too_long)
    data = read(packing, learnt, too_long, tokenizer)
    doubled = [*wanted, *wanted, *wanted]
    spans = {
        ((doubled[i][0], False), *doubled[i + 1 : i + LENGTH + 1]): i for i in range(len(wanted))
    }
    seen: list[int] = []
    for step in range(2):
        batch = data.batches(step)
        assert batch.mask is None
        for row in range(BATCH):
            inputs, targets = batch.inputs[row].tolist(), batch.targets[row].tolist()
            start = next(
                i
                for span, i in spans.items()
                if [t for t, _ in span[:-1]] == inputs
                and [t if f else UNSCORED for t, f in span[1:]] == targets
            )
            seen.append(start)
    assert len(seen) == 2 * BATCH
    if packing == "document" and too_long == "drop":
        begin = wanted[0][0]
        assert all(wanted[start][0] == begin for start in seen)


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_nanogpt])
@torch.no_grad()
def test_filled_up_rows_have_the_loss_of_rows_alone(make: Any) -> None:
    model = make().eval()
    generator = torch.Generator().manual_seed(1)
    rows = [
        Example(torch.randint(1, 90, (size,), generator=generator).numpy(), first)
        for size, first in ((9, 1), (4, 2), (14, 6))
    ]
    for masked in (True, False):
        batch = pad(rows, 0, masked=masked)
        alone = [pad([row], 0) for row in rows]
        assert batch.scored == sum(one.scored for one in alone) == 8 + 2 + 8
        wanted = sum(label_loss(logits_of(model, one), one) * one.scored for one in alone)
        found = label_loss(logits_of(model, batch), batch) * batch.scored
        assert found.item() == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("packing", ["stream", "document", "pad"])
def test_one_batch_of_eight_is_eight_of_one(packing: str) -> None:
    """Weighted by their scored tokens, as the loop does, the parts give the whole gradient."""
    tokenizer, model = letters("</s>", "</s>"), tiny_gpt2().eval()
    whole = read(packing, "answer", "split", tokenizer, batch_size=8).batches(1)
    single = read(packing, "answer", "split", tokenizer, batch_size=1).batches
    parts = [single(8 + number) for number in range(8)]
    assert sum(part.scored for part in parts) == whole.scored
    label_loss(logits_of(model, whole), whole).backward()  # type: ignore[no-untyped-call]
    wanted = model.transformer.wte.weight.grad.clone()
    model.zero_grad()
    for part in parts:
        loss = label_loss(logits_of(model, part), part) * part.scored / whole.scored
        loss.backward()  # type: ignore[no-untyped-call]
    found = model.transformer.wte.weight.grad
    assert torch.isfinite(found).all()
    assert functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.999999
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_a_chat_is_learnt_on_the_tokens_of_the_answer_and_its_end() -> None:
    tokenizer = chat_tokenizer()
    source = Documents.collect(
        [
            Document("the moon", "a", {"Prompt": "what the bear"}),
            Document(" the bear ", "b", {"Prompt": "who"}),
        ],
        "test",
        "train",
    )
    template = Template("{prompt}\n{text}")
    chats = fill_chat(source, template, tokenizer)
    data = DataSection(template="{prompt}\n{text}", chat=True, packing="pad")
    corpus = Corpus(chats, chats, chats, data)
    found = training_data(TrainSection(**SECTION), corpus, tokenizer, 64, seed=4)
    rows = sorted(
        (row_of(found.batches(0), row) for row in range(BATCH)), key=lambda row: -len(row)
    )
    for row, question, answer in zip(
        rows, ("what the bear", "who"), ("the moon", "the bear"), strict=True
    ):
        turns = [{"role": "user", "content": question}, {"role": MODEL_ROLE, "content": answer}]
        ids = tokenizer.apply_chat_template(turns, return_dict=False)
        given = tokenizer.apply_chat_template(
            turns[:1], add_generation_prompt=True, return_dict=False
        )
        (newline,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
        assert ids[-1] == newline
        assert [token for token, _ in row] == ids[:-1]
        assert [flag for _, flag in row] == [i >= len(given) for i in range(len(ids) - 1)]
        assert row[-1] == (tokenizer.eos_token_id, True)
        assert ids[: len(given)] == given
