"""The built-in corpus: determinism, disjoint splits, English and vocabulary."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from quantale.core.errors import UsageError
from quantale.data.corpora import storygen
from quantale.data.corpora.storygen import GENRES, write_story
from quantale.data.documents import SPLITS, Document
from quantale.data.load import load_documents
from quantale.data.stories.grammar import Picker, Plot, draw, tell, with_article
from quantale.data.stories.words import CASTS

PLOTS = [(genre, plot) for genre, plots in GENRES.items() for plot in plots]
WORD = re.compile(r"[A-Za-z]+")


@pytest.fixture(scope="module")
def stories() -> list[Document]:
    return [write_story(0, "train", i) for i in range(3000)]


def test_the_same_request_gives_the_same_digest_in_another_process() -> None:
    code = (
        "from quantale.data.load import load_documents as load\n"
        "import sys; sys.stdout.write(load('storygen', limit=50, seed=3).sha256)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == load_documents("storygen", limit=50, seed=3).sha256


def test_a_range_is_the_same_stories_as_a_slice_of_all() -> None:
    assert load_documents("storygen[5:9]").items == load_documents("storygen").items[5:9]


def test_no_story_repeats_and_other_seeds_give_other_stories(stories: list[Document]) -> None:
    texts = {story.text for story in stories}
    assert len(texts) == len(stories)
    assert texts.isdisjoint(write_story(1, "train", i).text for i in range(500))


def test_splits_share_no_story(stories: list[Document]) -> None:
    validation = {write_story(5, "validation", i).text for i in range(300)}
    test = {write_story(6, "test", i).text for i in range(300)}
    assert validation.isdisjoint(test)
    assert {story.text for story in stories}.isdisjoint(validation | test)


def test_splits_stay_disjoint_when_few_stories_are_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence, 24 names, 2 things: 48 stories, which 600 draws a seed nearly exhaust."""
    beats = (("{hero} has {a_thing}.",),)
    plot = Plot("tiny", "child", ("A toy.",), {"thing": ("ball", "drum")}, (beats,))
    monkeypatch.setattr(storygen, "GENRES", {"only": (plot,)})
    told = {
        split: {write_story(seed, split, i).text for seed in (0, 1) for i in range(300)}
        for split in SPLITS
    }
    assert sum(len(texts) for texts in told.values()) == len(set.union(*told.values())) > 44


@pytest.mark.parametrize(("genre", "plot"), PLOTS, ids=lambda value: getattr(value, "name", value))
def test_everything_that_decides_the_split_stands_in_the_text(genre: str, plot: Plot) -> None:
    for seed in range(60):
        picker = Picker(seed)
        choices = draw(plot, picker)
        text, prompt = tell(plot, choices, picker)
        _, *parts = choices.key.split("/")
        for part in parts:
            assert part.lower() in text.lower(), (part, text)
        assert prompt


@pytest.mark.parametrize(("genre", "plot"), PLOTS, ids=lambda value: getattr(value, "name", value))
def test_every_sentence_of_every_plot_can_be_filled_and_ends_like_one(
    genre: str, plot: Plot
) -> None:
    choices = draw(plot, Picker(1))
    for beats in plot.paragraphs:
        for template in (alternative for beat in beats for alternative in beat if alternative):
            single = Plot(plot.name, plot.hero, plot.prompts, plot.slots, (((template,),),))
            text, _ = tell(single, choices, Picker(0))
            assert re.fullmatch(r'["A-Z].*[.!?]"?', text), text
            assert "{" not in text
            assert text.count('"') % 2 == 0


def test_stories_have_60_to_180_words(stories: list[Document]) -> None:
    lengths = [len(story.text.split()) for story in stories]
    assert min(lengths) >= 60
    assert max(lengths) <= 180


def test_the_vocabulary_is_a_few_hundred_words(stories: list[Document]) -> None:
    words = {word.lower() for story in stories for word in WORD.findall(story.text)}
    assert 300 <= len(words) <= 700


def test_articles_agree_with_the_next_word(stories: list[Document]) -> None:
    for story in stories:
        for text in (story.text, story.fields["prompt"]):
            assert not re.search(r"\b[Aa] [aeiou]", text), text
            assert not re.search(r"\b[Aa]n [^aeiou]", text), text


def test_typography_is_clean(stories: list[Document]) -> None:
    for story in stories:
        assert story.text.count('"') % 2 == 0
        assert not re.search(r"  | \n|\n\n| [.,!?]|[.!?] [a-z]|\b(\w+) \1\b", story.text), (
            story.text
        )


def test_every_genre_and_plot_occurs_evenly(stories: list[Document]) -> None:
    counts = Counter(story.fields["genre"] for story in stories)
    assert set(counts) == set(GENRES)
    assert min(counts.values()) > 0.8 * len(stories) / len(GENRES)


def test_characters_in_the_fields_are_named_in_the_story(stories: list[Document]) -> None:
    for story in stories:
        for character in story.fields["characters"].split(", "):
            name = character.split(" the ")[0]
            assert len(re.findall(rf"\b{name}\b", story.text)) >= 2, story


def test_no_name_that_the_fields_leave_out_is_in_the_story(stories: list[Document]) -> None:
    names = {name for cast in CASTS.values() for name in (*cast.girls, *cast.boys)}
    for story in stories:
        told = names & set(WORD.findall(story.text))
        assert told == {who.split(" the ")[0] for who in story.fields["characters"].split(", ")}


def test_hero_and_friend_have_different_genders_and_names() -> None:
    for genre, plot in PLOTS:
        for seed in range(20):
            characters = draw(plot, Picker(seed)).characters
            assert len({character.she for character in characters}) == len(characters), genre
            assert len({character.name for character in characters}) == len(characters), genre


def test_articles_follow_the_first_letter() -> None:
    assert [with_article(word) for word in ("owl", "kind girl")] == ["an owl", "a kind girl"]


def test_an_unknown_split_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'train'"):
        load_documents("storygen[trian]")


def test_a_column_is_refused() -> None:
    with pytest.raises(UsageError, match="one text a document"):
        load_documents("storygen#Story")
