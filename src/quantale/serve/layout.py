"""Where things stand on the page of writers: Gradio's components and nothing that happens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from quantale.serve.choices import FIELD_EXAMPLES, WriterPage
from quantale.serve.controls import Controls, Range
from quantale.serve.escaping import escaped
from quantale.serve.inputs import CHARACTERS

VOTES = {"a": "A is better", "b": "B is better", "tie": "Tie", "bad": "Both bad"}


@dataclass(frozen=True)
class Asking:
    """The inputs of an answer."""

    fields: tuple[Any, ...]
    """One box for free text, or one for each field of the template."""
    examples: tuple[tuple[Any, tuple[str, ...]], ...]
    """Buttons, and what each writes into the boxes."""
    sliders: tuple[Any, ...]
    """Temperature, top-k, top-p, length, seed."""
    blind: Any
    go: Any
    stop: Any


@dataclass(frozen=True)
class Answers:
    """The outputs."""

    notice: Any
    cards: Any
    votes: tuple[Any, ...]
    """Buttons in the order of `VOTES`."""
    vote_row: Any
    tally: Any
    round: Any
    """Id of the blind round that can be voted on."""


@dataclass(frozen=True)
class Scoring:
    """The tab for the perplexity of a text."""

    text: Any
    go: Any
    table: Any


def masthead(title: str, about: str) -> None:
    """Put the heading of the page."""
    gr.HTML(
        f'<header class="q-mast"><p><b>Quantale</b></p><h1>{escaped(title)}</h1>'
        f"<p>{escaped(about)}</p></header>",
        js_on_load=None,
    )


def asking(page: WriterPage) -> Asking:
    """Put the prompt, its examples and the sliders."""
    fields = _fields(page)
    examples = _examples(page.shown_examples)
    with gr.Accordion("Sampling", elem_id="q-sampling"), gr.Row():
        sliders = _sliders(page.controls)
    with gr.Row(elem_classes="q-actions"):
        go = gr.Button("Write", variant="primary", elem_id="q-go", min_width=120, scale=0)
        stop = gr.Button("Stop", elem_id="q-stop", min_width=90, scale=0, interactive=False)
        blind = gr.Checkbox(
            label="Blind: hide the names and vote",
            elem_id="q-blind",
            container=False,
            visible=len(page.writers) > 1,
            min_width=240,
            scale=0,
        )
    return Asking(fields, examples, sliders, blind, go, stop)


def answers(cards: str, tally: str) -> Answers:
    """Put the cards, the buttons for votes and the votes so far."""
    notice = gr.HTML("", elem_id="q-notice", js_on_load=None)
    shown = gr.HTML(cards, elem_id="q-answers", js_on_load=None)
    with gr.Row(visible=False, elem_id="q-votes") as row:
        votes = tuple(
            gr.Button(text, interactive=False, elem_id=f"q-vote-{choice}", min_width=110)
            for choice, text in VOTES.items()
        )
    table = gr.HTML(tally, visible=False, elem_id="q-tally", js_on_load=None)
    return Answers(notice, shown, votes, row, table, gr.State(""))


def scoring() -> Scoring:
    """Put the box for a text of one's own and the table of its perplexities."""
    text = gr.Textbox(
        label="Your text",
        info="How well does each model predict it? Lower is better.",
        lines=8,
        max_length=CHARACTERS,
        elem_id="q-own",
    )
    with gr.Row():
        go = gr.Button("Score", variant="primary", elem_id="q-score", min_width=120, scale=0)
    return Scoring(text, go, gr.HTML("", elem_id="q-scores", js_on_load=None))


def _fields(page: WriterPage) -> tuple[Any, ...]:
    if not page.is_structured:
        return (_box("Prompt", "Once upon a time", "q-prompt", 3),)
    *first, last = page.fields
    with gr.Row():
        made = [
            _box(name.capitalize(), _hint(name), f"q-field-{number}", 1)
            for number, name in enumerate(first)
        ]
    return (*made, _box(last.capitalize(), _hint(last), "q-prompt", 2))


def _hint(field: str) -> str:
    return next(iter(FIELD_EXAMPLES.get(field.strip().casefold(), ())), "")


def _box(label: str, placeholder: str, name: str, lines: int) -> Any:
    return gr.Textbox(
        label=label,
        placeholder=placeholder,
        lines=lines,
        max_lines=max(lines, 10) if lines > 1 else 1,
        max_length=CHARACTERS,
        elem_id=name,
        min_width=150,
    )


def _examples(texts: Sequence[tuple[str, ...]]) -> tuple[tuple[Any, tuple[str, ...]], ...]:
    with gr.Row(elem_classes="q-examples"):
        return tuple(
            (
                gr.Button(
                    " \u00b7 ".join(values),
                    size="sm",
                    scale=0,
                    min_width=0,
                    elem_classes="q-example",
                ),
                values,
            )
            for values in texts
        )


def _sliders(controls: Controls) -> tuple[Any, ...]:
    return (
        _slider("Temperature", controls.temperature, "0: the likeliest"),
        _slider("Top-k", controls.top_k, "0: all tokens"),
        _slider("Top-p", controls.top_p, "1: all tokens"),
        _slider("Length", controls.length, "tokens at most"),
        gr.Number(
            label="Seed",
            info="the same for all",
            value=controls.seed.default,
            precision=0,
            elem_id="q-seed",
            min_width=110,
        ),
    )


def _slider(label: str, one: Range, info: str) -> Any:
    return gr.Slider(
        one.low, one.high, value=one.default, step=one.step, label=label, info=info,
        elem_id=f"q-{label.lower()}", buttons=[], min_width=110,
    )  # fmt: skip
