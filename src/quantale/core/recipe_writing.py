"""Sections of a recipe that let models write: stories and functions."""

from string import Formatter
from typing import Annotated, Self

from pydantic import Field, model_validator

from quantale.core.recipe_base import Count, Section, Text, broken_rule

TEMPLATE_FIELDS = ("genre", "characters", "prompt", "opening")
"""What a template of `stories` may name in braces."""


class WritingSection(Section):
    """How models write."""

    new_tokens: Count = 200
    """Most new tokens a text; fewer where the context of the model is shorter."""
    temperature: Annotated[float, Field(ge=0)] = 0.8
    """0: greedy."""
    top_k: Count | None = 50
    """Likeliest tokens to sample from; None: all."""
    batch_size: Count = 16
    """Texts written at once; does not change them, but for rounding."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the sampling, the same for every model."""


class StoriesSection(WritingSection):
    """Stories that every model writes, measured beside the corpus' own."""

    prompts: Count = 100
    """Test documents whose beginnings are continued, the first ones."""
    samples: Count = 1
    """Stories a prompt."""
    template: Text | None = None
    """What the model reads: {genre}, {characters}, {prompt} and {opening} are filled in. None: what
    the data's template has in front of the answer; without one, the opening."""
    opening_words: Annotated[int, Field(ge=0)] = 12
    """The opening is whole sentences with so many words at least; 0: no opening."""

    @model_validator(mode="after")
    def _template_can_be_filled(self) -> Self:
        if self.template is None:
            return self
        try:
            named = {name for _, name, _, _ in Formatter().parse(self.template) if name is not None}
        except ValueError as error:
            raise broken_rule("template", f"{self.template!r} has a stray brace: {error}") from None
        odd = sorted(named - set(TEMPLATE_FIELDS))
        if odd:
            known = ", ".join(TEMPLATE_FIELDS)
            raise broken_rule("template", f"{{{odd[0]}}} is none of {known}")
        if not named:
            raise broken_rule("template", "names nothing in braces: all prompts would be equal")
        return self


class CodeSection(WritingSection):
    """Python functions: perplexity of docstring and code, and whether what is written parses."""

    data: Text
    """Functions with docstrings: a `.jsonl` or `.parquet` file, or a Hub name, with #COLUMN."""
    documents: Count = 200
    """Functions that are scored, the first ones."""
    prompts: Annotated[int, Field(ge=0)] = 50
    """Functions whose body is written anew behind the docstring; 0: none."""
    new_tokens: Count = 128
    """Most new tokens a function."""
