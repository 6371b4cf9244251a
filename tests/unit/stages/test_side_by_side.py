"""Real models behind the page: they stream, score and classify what the library does elsewhere."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from shared_data import STORIES260K, needs_shared
from tiny_models import tiny_classifier, tiny_gpt2

from quantale.core.errors import DataError, ModelFileError, UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_file import recipe_text
from quantale.models.load import load
from quantale.serve.inputs import free_prompt
from quantale.serve.streaming import Race
from quantale.serve.writing import room_of
from quantale.stages.answering import Settings, Writer
from quantale.stages.generate import continue_prompt
from quantale.stages.side_by_side import open_models, template_of


@needs_shared
def test_models_answer_side_by_side_as_generate_does() -> None:
    opened = open_models([str(STORIES260K)], Silent(), exact=True)
    try:
        (writer,) = opened.writers
        settings = Settings(temperature=0.0, length=24)
        *_, (answer,) = Race([writer], "Once upon a time", settings).snapshots()
        expected = continue_prompt(
            load(STORIES260K), "Once upon a time",
            max_new_tokens=24, temperature=0.0, top_k=None, seed=0,
        )  # fmt: skip
        assert expected["text"] == "Once upon a time" + answer.text
        assert answer.reason == "length"
        assert writer.facts.nbytes == (STORIES260K / "model.safetensors").stat().st_size
        assert writer.facts.context == load(STORIES260K).model.config.max_position_embeddings
        assert writer.facts.kernel == "torch"
        assert_scores(writer)
        assert_cut(writer)
    finally:
        opened.close()


def assert_scores(writer: Writer) -> None:
    """Its own kind of text is easier than noise; a text without tokens is refused."""
    story = writer.score("Once upon a time there was a little girl. She was happy.")
    noise = writer.score("qwe rty zxc vbn mju ikl opp aas ddf ggh")
    assert 1.0 < story.perplexity < noise.perplexity
    assert story.bits_per_byte == pytest.approx(story.nll / story.nbytes / math.log(2))
    with pytest.raises(DataError):
        writer.score("")


def assert_cut(writer: Writer) -> None:
    """A prompt beyond the context is cut so that an answer fits."""
    prompt = free_prompt("One day a dog ran. " * 3000, room_of([writer], 40))
    assert prompt.cut > 0
    *_, (answer,) = Race([writer], prompt.text, Settings(length=40)).snapshots()
    assert answer.state == "done"
    assert len(answer.pieces) > 1


@needs_shared
def test_classifiers_are_asked_by_their_head(tmp_path: Path) -> None:
    folder = classifier(tmp_path)
    opened = open_models([str(folder)], Silent())
    (judge,) = opened.classifiers
    said = judge.classify("Once upon a time")
    assert sum(said.shares.values()) == pytest.approx(1.0)
    assert len(said.shares) == 4
    assert said.seconds > 0
    assert opened.writers == ()


@needs_shared
def test_classifiers_and_writers_do_not_share_a_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="show them apart"):
        open_models([str(classifier(tmp_path)), str(STORIES260K)], Silent())


def test_seven_models_are_too_many() -> None:
    with pytest.raises(UsageError, match="one to 6"):
        open_models([f"m{number}" for number in range(7)], Silent())


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_gpt2().save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelFileError, match="no tokenizer"):
        open_models([str(tmp_path / "bare")], Silent())


def test_the_template_is_that_of_the_recipe_in_whose_run_a_model_lies(tmp_path: Path) -> None:
    model = tmp_path / "run" / "train" / "model"
    model.mkdir(parents=True)
    assert template_of(model) is None
    text = recipe_text("persona-tales")
    (tmp_path / "run" / "recipe.yaml").write_text(text, encoding="utf-8")
    found = template_of(model)
    assert found is not None
    assert found.prompt_fields == ("genre", "characters", "prompt")


def classifier(folder: Path) -> Path:
    """Write a tiny classifier with the tokenizer of a real model."""
    made = folder / "classifier"
    tokenizer = load(STORIES260K).tokenizer
    tiny_classifier("Llama", vocab_size=len(tokenizer)).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.mark.slow
@needs_shared
def test_three_models_give_their_first_tokens_within_300_ms_at_once() -> None:
    opened = [open_models([str(STORIES260K)], Silent()) for _ in range(3)]
    try:
        writers = [one.writers[0] for one in opened]
        times = [first_tokens(writers) for _ in range(7)]
        assert sorted(max(one) for one in times)[3] < 0.3
    finally:
        for one in opened:
            one.close()


def first_tokens(writers: Sequence[Writer]) -> list[float]:
    """Return for every model when its first token was on the page, in seconds."""
    began = time.perf_counter()
    shown: dict[int, float] = {}
    for answers in Race(writers, "Once upon a time", Settings(length=8)).snapshots():
        for index, answer in enumerate(answers):
            if answer.pieces:
                shown.setdefault(index, time.perf_counter() - began)
    return list(shown.values())
