"""From models to a page that is served: what `quantale demo` does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from quantale.core.errors import UsageError
from quantale.core.progress import Progress
from quantale.core.templates import Template
from quantale.serve.choices import ClassifierPage, WriterPage
from quantale.serve.guard import rules_for
from quantale.serve.page import classifier_page, writer_page
from quantale.serve.serving import serve_blocks
from quantale.stages.side_by_side import Opened, open_models


@dataclass(frozen=True)
class Demo:
    """What was asked for."""

    models: tuple[str, ...]
    votes: Path
    template: str | None = None
    is_free: bool = False
    """Whether a template of the models' recipe is left aside."""
    exact: bool = False


def serve_demo(
    asked: Demo,
    place: tuple[str, int],
    key: str | None,
    progress: Progress,
    ready: Callable[[str], None],
) -> None:
    """Load the models and serve their page until it is stopped.

    place: address and port. key: what visitors must know. ready: told the page's address. Raises
    UsageError for an address that others reach without a key, before anything is loaded.
    """
    rules_for(*place, key)
    template = _parsed(asked.template)
    opened = open_models(asked.models, progress, exact=asked.exact)
    try:
        blocks = _page(asked, opened, template)
        serve_blocks(blocks, place, key, ready)
    finally:
        opened.close()


def _page(asked: Demo, opened: Opened, template: Template | None) -> gr.Blocks:
    if opened.classifiers:
        return classifier_page(ClassifierPage(opened.classifiers))
    chosen = None if asked.is_free else template or opened.template
    return writer_page(WriterPage(opened.writers, asked.votes, chosen))


def _parsed(template: str | None) -> Template | None:
    if template is None:
        return None
    try:
        return Template(template)
    except ValueError as error:
        raise UsageError(f"--template {error}") from error
