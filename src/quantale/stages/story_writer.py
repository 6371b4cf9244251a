"""One model after the other continues the same beginnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantale.core.errors import DataError, UsageError
from quantale.core.progress import Progress
from quantale.core.recipe_data import DataSection
from quantale.core.recipe_writing import StoriesSection
from quantale.data.documents import Documents
from quantale.data.tokenizers import tokenizer_sha256
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories.metrics import Story
from quantale.evaluation.stories.prompts import Asking, Draft
from quantale.evaluation.windows import own_context
from quantale.models.load import LoadedModel, load
from quantale.stages.batches import BatchSettings, Request, budget, continue_prompts
from quantale.stages.draws import Sampling
from quantale.stages.generate import prompt_tokens
from quantale.stages.origin import ModelOrigin


@dataclass(frozen=True)
class StoryPlan:
    """Who writes, and what is asked."""

    folders: Mapping[str, Path]
    """Model folders by name."""
    digests: Mapping[str, str]
    """What each folder holds."""
    base: str | None
    """Name of the model that the others are compared with."""
    documents: Documents
    """Unseen documents, whose beginnings are continued."""
    training: Documents
    """What the models were trained on: for copies, known words and the classifier."""
    section: StoriesSection
    bootstrap: Bootstrap = field(default_factory=Bootstrap)


def asking_of(section: StoriesSection, data: DataSection | None = None) -> Asking:
    """Return how documents become prompts; the data's template where the section has none.

    Its field names are in lower case, as those of drafts are.
    """
    learnt = None if data is None else data.parsed_template
    if section.template is not None:
        return Asking(section.template, section.opening_words)
    if learnt is None:
        return Asking(opening_words=section.opening_words)
    names = {name: f"{{{name.strip().casefold()}}}" for name in learnt.fields}
    return Asking(learnt.prompt(names), section.opening_words)


class StoryWriter:
    """Loads one model after the other and lets it continue all prompts."""

    def __init__(self, plan: StoryPlan, drafts: Sequence[Draft]) -> None:
        self._plan, self.drafts = plan, list(drafts)
        self.origins: dict[str, ModelOrigin] = {}
        """How each model that has written was run, by name."""
        self._tokenizer: Any = None
        self.budget = 0
        self.tokenizer_sha256 = ""

    @property
    def protocol(self) -> str:
        """The fingerprint of how the stories were made."""
        section = self._plan.section
        template = asking_of(section).template.replace("\n", "\\n")
        return (
            f"stories(prompts={len(self.drafts)},samples={section.samples},new={self.budget},"
            f"temperature={section.temperature:g},top_k={section.top_k},seed={section.seed},"
            f"opening={section.opening_words},template={template})"
        )

    def write(self, name: str, folder: Path, progress: Progress) -> list[Story]:
        """Return the stories of one model."""
        loaded = load(folder)
        self._meet(name, loaded)
        section = self._plan.section
        settings = BatchSettings(
            self.budget,
            Sampling(section.temperature, section.top_k),
            section.batch_size,
            section.seed,
        )
        wanted = [(one, draw) for one in self.drafts for draw in range(section.samples)]
        requests = [Request(one.given, f"{one.id}/{draw}") for one, draw in wanted]
        written = continue_prompts(loaded, requests, settings, progress.advance)
        return [
            Story(name, one.id, draw, text.text, text.ended)
            for (one, draw), text in zip(wanted, written, strict=True)
        ]

    def cut(self, text: str) -> tuple[str, bool]:
        """Return as much of a text as a model may write, and whether that is all of it."""
        tokens = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(tokens) < self.budget:
            return text, True
        return str(self._tokenizer.decode(tokens[: self.budget])), False

    def _meet(self, name: str, loaded: LoadedModel) -> None:
        if loaded.tokenizer is None:
            raise DataError(f"{loaded.path}: holds no tokenizer")
        digest = tokenizer_sha256(loaded.tokenizer)
        if not self.origins:
            self._tokenizer, self.tokenizer_sha256 = loaded.tokenizer, digest
            self._keep_short_prompts(loaded)
            given = [one.given for one in self.drafts]
            self.budget = budget(loaded, given, self._plan.section.new_tokens)
        if digest != self.tokenizer_sha256:
            raise UsageError(
                f"{next(iter(self.origins))} and {name} have different tokenizers: the corpus' "
                "stories are cut by tokens, so give each a table of its own"
            )
        self.origins[name] = ModelOrigin.of(loaded.model)

    def _keep_short_prompts(self, loaded: LoadedModel) -> None:
        """Leave out prompts of more than half of the context: one would shorten all stories."""
        limit = (own_context(loaded.model) or 2**31) // 2
        sizes = [len(prompt_tokens(loaded.tokenizer, one.given)) for one in self.drafts]
        self.drafts = [one for one, size in zip(self.drafts, sizes, strict=True) if size <= limit]
        if not self.drafts:
            raise DataError(
                f"all prompts take more than {limit} tokens, half of the model's context; the "
                f"shortest has {min(sizes)}: ask for shorter openings"
            )
