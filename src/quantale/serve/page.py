"""The side-by-side page: Gradio components tied to what happens.

Every handler takes what a browser sent as untrusted, and every text leaves through `escaped`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from quantale.core.errors import QuantaleError
from quantale.serve import layout
from quantale.serve.ballots import Ballots
from quantale.serve.choices import ClassifierPage, WriterPage
from quantale.serve.classes import classify, verdict_cards
from quantale.serve.inputs import CHARACTERS
from quantale.serve.layout import Answers, Asking, Scoring
from quantale.serve.notices import notice
from quantale.serve.scores import score_text
from quantale.serve.tally import tally
from quantale.serve.writing import Asked, Desk, Shown

_AT_ONCE = 4
"""People whose answers are made at once; others wait in Gradio's queue."""
_WAITING = 32


def writer_page(page: WriterPage) -> gr.Blocks:
    """Return the page of language models; raises DataError for a bad file of votes."""
    desk = Desk(page, Ballots(page.writers, page.votes))
    count = len(page.writers)
    with _blocks("Side by side") as blocks:
        layout.masthead(
            "One prompt, one seed, side by side" if count > 1 else "One prompt, one model",
            f"{count} model{'s' * (count > 1)} on this machine, writing at once. Times are what "
            "they take beside one another.",
        )
        with gr.Tabs():
            with gr.Tab("Write"):
                asking = layout.asking(page)
                answers = layout.answers(desk.idle(), tally(desk.ballots.tally()))
            with gr.Tab("Score a text"):
                scoring = layout.scoring()
        _Wiring(desk, asking, answers).tie(blocks)
        _tie_scoring(page, scoring)
    return blocks.queue(max_size=_WAITING, default_concurrency_limit=_AT_ONCE)


def classifier_page(page: ClassifierPage) -> gr.Blocks:
    """Return the page of classifiers."""
    with _blocks("Classes side by side") as blocks:
        layout.masthead(
            "One text, every classifier’s verdict",
            "A word is marked where a model names another class than the first one.",
        )
        text = gr.Textbox(label="Text", lines=5, max_length=CHARACTERS, elem_id="q-prompt")
        with gr.Row(elem_classes="q-examples"):
            buttons = [
                (gr.Button(one, size="sm", scale=0, min_width=0, elem_classes="q-example"), one)
                for one in page.examples
            ]
        with gr.Row():
            go = gr.Button(
                "Classify", variant="primary", elem_id="q-classify", min_width=140, scale=0
            )
        waiting = verdict_cards(page.classifiers, [None] * len(page.classifiers))
        shown = gr.HTML(waiting, elem_id="q-answers", js_on_load=None)

        def answer(value: Any) -> str:
            return classify(page.classifiers, value)

        go.click(answer, text, shown, api_visibility="private", show_progress="hidden")
        for button, example in buttons:
            _on_click(button, _returns(example), text)
    return blocks.queue(max_size=_WAITING, default_concurrency_limit=1)


class _Wiring:
    """Ties the components of answers and votes to a desk."""

    def __init__(self, desk: Desk, asking: Asking, answers: Answers) -> None:
        self._desk, self._asking, self._answers = desk, asking, answers

    def tie(self, blocks: gr.Blocks) -> None:
        """Say what happens at every press."""
        asking, answers = self._asking, self._answers
        asking.go.click(
            self._write,
            {*asking.fields, *asking.sliders, asking.blind},
            self._outputs(),
            api_visibility="private",
            show_progress="hidden",
        )
        _on_click(asking.stop, self._stop, None)
        blocks.unload(self._stop)
        for button, choice in zip(answers.votes, layout.VOTES, strict=True):
            button.click(
                self._voting(choice),
                answers.round,
                [answers.notice, answers.cards, *answers.votes, answers.tally, answers.round],
                api_visibility="private",
                show_progress="hidden",
            )
        for button, texts in asking.examples:
            _on_click(button, _returns(*texts), list(asking.fields))

    def _outputs(self) -> list[Any]:
        asking, answers = self._asking, self._answers
        return [
            answers.notice, answers.cards, asking.go, asking.stop, answers.vote_row,
            *answers.votes, answers.tally, answers.round,
        ]  # fmt: skip

    def _write(self, data: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Yield what changes on the page while the models write."""
        asking, answers = self._asking, self._answers
        is_blind = data[asking.blind] is True
        yield {
            asking.go: gr.Button(interactive=False),
            asking.stop: gr.Button(interactive=True),
            answers.vote_row: gr.Row(visible=is_blind),
            answers.tally: gr.HTML(tally(self._desk.ballots.tally()), visible=is_blind),
            answers.round: "",
            **dict.fromkeys(answers.votes, gr.Button(interactive=False)),
        }
        try:
            for shown in self._desk.write(self._asked(data, is_blind), _visitor(request)):
                yield self._changes(shown)
        except QuantaleError as error:
            yield {answers.notice: notice(str(error))}
        yield {asking.go: gr.Button(interactive=True), asking.stop: gr.Button(interactive=False)}

    def _changes(self, shown: Shown) -> dict[Any, Any]:
        answers = self._answers
        changes = {answers.notice: shown.notice, answers.cards: shown.cards}
        if shown.round:
            changes |= {answers.round: shown.round}
            changes |= dict.fromkeys(answers.votes, gr.Button(interactive=True))
        return changes

    def _asked(self, data: Mapping[Any, Any], is_blind: bool) -> Asked:
        asking, page = self._asking, self._desk.page
        values = (data[box] for box in asking.fields)
        settings = page.controls.settings(*(data[slider] for slider in asking.sliders))
        return Asked(dict(zip(page.fields, values, strict=True)), settings, is_blind)

    def _stop(self, request: gr.Request) -> None:
        self._desk.stop(_visitor(request))

    def _voting(self, choice: str) -> Callable[[str], dict[Any, Any]]:
        def vote(round_id: str) -> dict[Any, Any]:
            answers = self._answers
            closed = dict.fromkeys(answers.votes, gr.Button(interactive=False))
            try:
                shown = self._desk.vote(round_id, choice)
            except QuantaleError as error:
                return {answers.notice: notice(str(error))}
            if shown is None:
                return {answers.notice: notice("This round has its vote; write again."), **closed}
            return {
                answers.notice: shown.notice,
                answers.cards: shown.cards,
                answers.tally: tally(self._desk.ballots.tally()),
                answers.round: "",
                **closed,
            }

        return vote


def _tie_scoring(page: WriterPage, scoring: Scoring) -> None:
    def score(value: Any) -> str:
        return score_text(page.writers, value)

    scoring.go.click(
        score, scoring.text, scoring.table, api_visibility="private", concurrency_limit=1
    )


def _blocks(title: str) -> gr.Blocks:
    return gr.Blocks(title=f"{title} \u2013 Quantale", analytics_enabled=False, fill_width=True)


def _on_click(button: Any, happens: Callable[..., Any], output: Any) -> None:
    button.click(
        happens, None, output, api_visibility="private", show_progress="hidden", queue=False
    )


def _returns(*texts: str) -> Callable[[], Any]:
    return lambda: texts[0] if len(texts) == 1 else texts


def _visitor(request: gr.Request) -> str:
    return str(getattr(request, "session_hash", "") or "")
