"""The section of a recipe about its data: which documents, and what of them is learnt how."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quantale.core.recipe_base import Count, Fraction, Section, Text, broken_rule
from quantale.core.templates import Template


class DataSection(Section):
    """Where the documents come from, how they are divided, and how training reads them."""

    source: Text = "storygen"
    """Corpus name, Hub name or local path, with `#column` and `[split]` where they apply."""
    train_documents: Count | None = None
    """How many training documents; None: all, or the share of `split`."""
    validation_documents: Count | None = None
    """How many validation documents; None: as above."""
    test_documents: Count | None = None
    """How many test documents; None: as above."""
    split: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    """Shares for training, validation and test of a source without splits; whole documents."""
    split_by: Literal["characters", "documents"] = "characters"
    """What the shares are of."""
    shuffle_seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Order of the documents before they are divided; None: as they come."""
    test: Text | None = None
    """Another source to evaluate on instead of the test split."""
    template: Text | None = None
    """Text made of columns in braces; {text} is the source's own text."""
    answer: Text | None = None
    """Column of the template where the answer begins; None: its last one."""
    chat: bool = False
    """Whether prompt and answer become turns in the model's own chat template."""
    loss_on: Literal["text", "answer"] | None = None
    """Which tokens are learnt; None: the whole text, of a chat the answer."""
    packing: Literal["stream", "document", "pad"] = "stream"
    """Rows of a batch: windows of all documents end to end, windows that begin with a document, or
    one document each, filled up."""
    length: Annotated[int, Field(ge=2)] | None = None
    """Tokens of a row; None: the model's context."""
    too_long: Literal["drop", "cut", "split"] | None = None
    """What becomes of a longer document; None: split, and cut where classes are learnt."""
    label: Text | None = None
    """Column of the labels: the model becomes a classifier."""
    classes: tuple[Text, ...] | None = None
    """Names in the order of their numbers; None: the labels of the training part, sorted."""

    @property
    def learns_classes(self) -> bool:
        """Whether a classifier is trained."""
        return self.label is not None

    @property
    def learnt(self) -> Literal["text", "answer"]:
        """Which tokens are learnt."""
        return self.loss_on or ("answer" if self.chat else "text")

    @property
    def parsed_template(self) -> Template | None:
        """The template, None where the text is taken as it is."""
        return None if self.template is None else Template(self.template, self.answer)

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if abs(sum(self.split) - 1) > 1e-6:
            raise broken_rule("split", f"the shares should add up to 1, not {sum(self.split):g}")
        return self

    @model_validator(mode="after")
    def _template_fits(self) -> Self:
        try:
            template = self.parsed_template
        except ValueError as error:
            field = "answer" if str(error).startswith("the answer") else "template"
            raise broken_rule(field, str(error)) from None
        for field in ("answer", "chat", "loss_on"):
            if template is None and getattr(self, field) not in (None, False, "text"):
                raise broken_rule(field, "needs a template, which tells prompt and answer apart")
        if self.learnt == "answer" and template is not None and not template.prompt_fields:
            raise broken_rule("loss_on", "the template names no column in front of the answer")
        if self.chat and self.loss_on == "text":
            raise broken_rule("loss_on", "a chat is learnt on the answers only")
        return self

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if self.label is None:
            if self.classes is not None:
                raise broken_rule("classes", "need a column of labels: write label")
            return self
        for field, wrong in (("chat", True), ("loss_on", "answer"), ("too_long", "split")):
            if getattr(self, field) == wrong:
                raise broken_rule(field, f"{wrong!r} has no meaning where classes are learnt")
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise broken_rule("classes", "are two names or more, all different")
        return self
