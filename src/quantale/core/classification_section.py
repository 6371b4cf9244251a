"""The part of a recipe that asks for classes in place of language."""

from typing import Any, Literal

from quantale.core.recipe_base import Count, Section, Text


class ClassificationSection(Section):
    """How texts are classified; what is None is left to the route, the model and the data."""

    route: Text = "head"
    """Plug-in name: `head` for a classifier, `likelihood` for a language model."""
    label: Text | None = None
    """Column of the labels; None: that of the data section, or "label"."""
    classes: tuple[Text, ...] | None = None
    """Names in the order of their numbers; None: the data section's, or the classifier's own."""
    length: Count | None = None
    """Tokens of a document; None: the model's context."""
    template: Text | None = None
    """Of the likelihood route: what goes before the word, with {text} in it."""
    words: tuple[Text, ...] | None = None
    """Of the likelihood route: the word for each class; None: a space and its name."""
    normalise: Literal["sum", "token", "byte"] | None = None
    """Of the likelihood route: what a word's log-likelihood is divided by."""

    def given(self) -> dict[str, Any]:
        """Return the settings of the route that were given."""
        names = ("route", "length", "template", "words", "normalise")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}
