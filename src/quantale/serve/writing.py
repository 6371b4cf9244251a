"""What happens on the page of writers: a prompt becomes answers, open or blind, and votes."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantale.core.errors import UsageError
from quantale.serve.ballots import Ballots, Round
from quantale.serve.cards import LETTERS, Card, cards, status
from quantale.serve.choices import WriterPage
from quantale.serve.controls import room
from quantale.serve.facts import figures
from quantale.serve.inputs import Prompt, Sizes, filled_prompt, free_prompt
from quantale.serve.notices import notices
from quantale.serve.streaming import Answer, Race, in_step
from quantale.stages.answering import Settings, Writer

_KEPT = 1_000
"""Blind rounds whose answers wait for their vote."""


@dataclass(frozen=True)
class Shown:
    """What the page shows next."""

    notice: str
    cards: str
    is_over: bool = False
    round: str = ""
    """Of a blind round that is over: its id, by which it can be voted on."""


@dataclass(frozen=True)
class Asked:
    """One press of the button."""

    fields: Mapping[str, object]
    """By name; of a page without a template, the only one is "prompt"."""
    settings: Settings
    is_blind: bool = False


@dataclass(frozen=True)
class _Finished:
    round: Round
    prompt: Prompt
    answers: tuple[Answer, ...]


class Desk:
    """The models of a page, what they are writing, and the votes on it."""

    def __init__(self, page: WriterPage, ballots: Ballots) -> None:
        self.page, self.ballots = page, ballots
        self._races: dict[str, Race] = {}
        self._finished: dict[str, _Finished] = {}
        self._lock = threading.Lock()

    def idle(self) -> str:
        """Return the cards before anything is written."""
        writers = self.page.writers
        return cards(self._cards(writers, None, None), None, is_marked=False)

    def write(self, asked: Asked, visitor: str) -> Iterator[Shown]:
        """Let the models answer and yield what to show; visitor: who may stop it."""
        drawn = self.ballots.draw() if asked.is_blind else None
        writers = self.page.writers
        if drawn is not None:
            writers = [writers[index] for index in drawn.order]
        prompt = self._prompt(asked, writers)
        race = Race(writers, prompt.text, asked.settings)
        self._enter(visitor, race)
        answers: tuple[Answer, ...] = ()
        try:
            with contextlib.closing(race.snapshots()) as news:
                for answers in news:
                    yield self._shown(writers, prompt, answers, drawn)
        finally:
            self._leave(visitor, race)
        is_open = drawn is not None and self._open(drawn, prompt, asked.settings, answers)
        last = self._shown(writers, prompt, answers, drawn)
        yield Shown(last.notice, last.cards, True, drawn.id if drawn and is_open else "")

    def stop(self, visitor: str) -> None:
        """Stop what this visitor is waiting for."""
        with self._lock:
            race = self._races.get(visitor)
        if race is not None:
            race.stop()

    def vote(self, round_id: str, choice: str) -> Shown | None:
        """Keep a vote and show who wrote what; None where the round is not open."""
        drawn = self.ballots.vote(round_id, choice)
        if drawn is None:
            return None
        with self._lock:
            finished = self._finished.pop(round_id)
        writers = [self.page.writers[index] for index in drawn.order]
        return self._shown(writers, finished.prompt, finished.answers, None, lettered=True)

    def _prompt(self, asked: Asked, writers: Sequence[Writer]) -> Prompt:
        sizes = room_of(writers, asked.settings.length)
        if self.page.template is None or not self.page.is_structured:
            return free_prompt(asked.fields.get("prompt"), sizes)
        return filled_prompt(self.page.template, asked.fields, sizes)

    def _shown(
        self,
        writers: Sequence[Writer],
        prompt: Prompt,
        answers: Sequence[Answer],
        drawn: Round | None,
        *,
        lettered: bool = False,
    ) -> Shown:
        shown = list(answers) if drawn is None else list(in_step(answers))
        found = self._cards(writers, shown, prompt.text, blind=drawn is not None)
        if lettered:
            found = [_lettered(card, index) for index, card in enumerate(found)]
        html = cards(found, shown, is_marked=drawn is None)
        return Shown(notices(prompt, status(shown)), html)

    def _cards(
        self,
        writers: Sequence[Writer],
        answers: Sequence[Answer] | None,
        prompt: str | None,
        *,
        blind: bool = False,
    ) -> list[Card]:
        if blind:
            return [Card(LETTERS[index], None) for index in range(len(writers))]
        numbers = {writer.name: index for index, writer in enumerate(self.page.writers)}
        facts = figures([writer.facts for writer in writers], answers)
        return [
            Card(writer.name, numbers[writer.name], own, _unknown(writer, prompt))
            for writer, own in zip(writers, facts, strict=True)
        ]

    def _open(
        self, drawn: Round, prompt: Prompt, settings: Settings, answers: Sequence[Answer]
    ) -> bool:
        """Let a round be voted on, unless an answer failed or was stopped."""
        if any(answer.state != "done" or answer.reason == "cancelled" for answer in answers):
            return False
        with self._lock:
            while len(self._finished) >= _KEPT:
                del self._finished[next(iter(self._finished))]
            self._finished[drawn.id] = _Finished(drawn, prompt, tuple(answers))
        self.ballots.close(drawn, prompt.text, settings, [answer.text for answer in answers])
        return True

    def _enter(self, visitor: str, race: Race) -> None:
        with self._lock:
            before = self._races.get(visitor)
            self._races[visitor] = race
        if before is not None:
            before.stop()

    def _leave(self, visitor: str, race: Race) -> None:
        with self._lock:
            if self._races.get(visitor) is race:
                del self._races[visitor]


def room_of(writers: Sequence[Writer], length: int) -> Sizes:
    """Return how a prompt is measured: of each model its tokens, and how many there may be."""

    def sizes(text: str) -> Sequence[tuple[int, int]]:
        return [(_count(one, text), room(one.facts.context, length)) for one in writers]

    return sizes


def _count(writer: Writer, text: str) -> int:
    try:
        return len(writer.tokens(text))
    except UsageError:  # nothing to begin with; asking for the answer says so again
        return 0


def _unknown(writer: Writer, prompt: str | None) -> str:
    """Say how much of the prompt the tokenizer has no symbol for."""
    if not prompt:
        return ""
    count = writer.unknown(prompt)
    return f"{count} unknown in the prompt" if count else ""


def _lettered(card: Card, index: int) -> Card:
    return Card(f"{LETTERS[index]}: {card.name}", card.colour, card.figures, card.note)
