"""What a page shows: its models, what they can be asked, and where votes go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantale.core.templates import Template
from quantale.serve.controls import Controls
from quantale.stages.answering import Classifier, Writer

EXAMPLES = (
    "Once upon a time, there was a little fox who",
    "Mara was afraid of the dark because",
    "The old king opened the box and",
    "One rainy morning, two friends found a key.",
)
FIELD_EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "genre": ("fantasy", "mystery", "animals"),
    "characters": ("a shy dragon and a baker", "two sisters", "an owl who cannot sleep"),
    "prompt": (
        "Why did the dragon never fly at night?",
        "Who took the red kite?",
        "What did the owl hear in the mill?",
    ),
}
"""By the name of a template's field, in lower case; the first of each belong together."""


@dataclass(frozen=True)
class WriterPage:
    """A page of language models."""

    writers: Sequence[Writer]
    votes: Path
    """File that blind votes are added to."""
    template: Template | None = None
    examples: Sequence[str] = field(default=EXAMPLES)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is asked for: a template's fields, or just a prompt."""
        known = () if self.template is None else self.template.prompt_fields
        return known or ("prompt",)

    @property
    def is_structured(self) -> bool:
        """Say whether a template is filled."""
        return self.template is not None and bool(self.template.prompt_fields)

    @property
    def shown_examples(self) -> Sequence[tuple[str, ...]]:
        """Examples to choose from, with a text for every field."""
        if not self.is_structured:
            return [(text,) for text in self.examples]
        known = [FIELD_EXAMPLES.get(name.strip().casefold(), ()) for name in self.fields]
        return list(zip(*known, strict=False)) if all(known) else []

    @property
    def controls(self) -> Controls:
        """The sliders, for the shortest context."""
        return Controls.of(min(writer.facts.context for writer in self.writers))


@dataclass(frozen=True)
class ClassifierPage:
    """A page of classifiers."""

    classifiers: Sequence[Classifier]
    examples: Sequence[str] = (
        "The striker scored twice in the last five minutes of the final.",
        "Shares fell after the bank warned that profits would be lower.",
        "Researchers have built a battery that charges in a minute.",
    )
