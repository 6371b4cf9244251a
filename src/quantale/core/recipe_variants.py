"""The sections of a recipe that describe the models beside the base."""

import re
from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from quantale.core.choices import Dtype, Role
from quantale.core.errors import nearest
from quantale.core.recipe_base import Bits, Count, GroupSize, Scalar, Section, Text, broken_rule
from quantale.core.recipe_training import TrainSection

BASE, PRETRAINED, SCRATCH = "fp32", "pretrained", "scratch"
"""Names of the base of all comparisons, of what it was before the recipe trained it, and of a model
of its shape with new weights."""
BASELINE = "baseline"
"""The group of the base alone."""
FOLDER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
"""What is safe as the name of a folder everywhere."""


class MethodSection(Section):
    """A method with its settings; what is None is left to the method."""

    bits: Bits | None = None
    """Bits of a weight."""
    group_size: GroupSize | None = None
    """Weights that share a scale."""
    symmetric: bool | None = None
    """Whether the grid is centred on zero and stores no zero points."""
    settings: Mapping[str, Scalar] = {}
    """The method's own settings, such as act_order."""

    def given(self) -> dict[str, Scalar]:
        """Return the settings that were given."""
        named = {name: getattr(self, name) for name in ("bits", "group_size", "symmetric")}
        return {**{k: v for k, v in named.items() if v is not None}, **self.settings}


class RuleSection(MethodSection):
    """Which sites get which method; what is None does not restrict the rule."""

    match: Text | None = None
    """Pattern of site names, such as transformer.h.[0-2].**"""
    role: Role | tuple[Role, ...] | None = None
    """One role or a list of them."""
    min_size: Count | None = None
    """Sites of at least this many weights."""
    max_size: Count | None = None
    """Sites of at most this many weights."""
    method: Text | None
    """Plug-in name of the method; null or "none" leaves the sites in full precision."""

    @property
    def plugin(self) -> str | None:
        """The method's name, None for full precision."""
        return None if self.method == "none" else self.method

    @model_validator(mode="after")
    def _settings_need_a_method(self) -> Self:
        if self.plugin is None and self.given():
            reason = f"full precision has no setting {next(iter(self.given()))!r}"
            raise broken_rule("method", reason)
        return self


class VariantSection(MethodSection):
    """One model beside the base: quantized, tuned, or both."""

    name: Text
    """Folder name and label in the report."""
    start: Text = "fp32"
    """What it is made from: fp32 (the base), pretrained (the base before the recipe trained it),
    scratch (a model of its shape with new weights) or an earlier variant."""
    group: Text | None = None
    """Which `--only GROUP` makes it."""
    tune: TrainSection | None = None
    """A training of its own; whether it comes before, in or after quantizing is the method's."""
    method: Text | None = None
    """Plug-in name of the method of the blocks' linear layers, where no rule came first."""
    rules: tuple[RuleSection, ...] = ()
    """What other sites get, or these; the first rule that fits a site decides."""
    embedding_bits: Bits | None = None
    """Bits of the token embedding; None, without `embedding_method`: not quantized."""
    embedding_method: Text | None = None
    """Plug-in name of the embedding's method; None: rtn."""
    head_bits: Bits | None = None
    """Bits of an untied head; None, without `head_method`: not quantized."""
    head_method: Text | None = None
    """Plug-in name of the head's method; None: rtn."""
    dtype: Dtype | None = None
    """Of everything that is not quantized; None: as it is in the checkpoint."""

    @property
    def quantizes(self) -> bool:
        """Whether any site may be quantized."""
        ends = (self.embedding_bits, self.embedding_method, self.head_bits, self.head_method)
        return self.method is not None or bool(self.rules) or any(e is not None for e in ends)

    @model_validator(mode="after")
    def _something_is_done(self) -> Self:
        if self.method is None and not self.rules and self.tune is None:
            raise broken_rule("method", "is missing, and there are no rules in its place")
        if self.method is None and self.given():
            reason = f"{next(iter(self.given()))!r} needs a method; a rule has settings of its own"
            raise broken_rule("method", reason)
        return self

    @model_validator(mode="after")
    def _name_is_a_folder_name(self) -> Self:
        if not FOLDER_NAME.fullmatch(self.name):
            reason = (
                f"{self.name!r} is not safe as a folder name: begin with a letter or digit, "
                "then letters, digits, '.', '_' and '-', 64 at most"
            )
            raise broken_rule("name", reason)
        return self


def check_variants(variants: tuple[VariantSection, ...], *, pretrained: bool) -> None:
    """Raise for names that collide and for starts that are no earlier model.

    pretrained: whether the base was a model before the recipe trained it.
    """
    known = [BASE, PRETRAINED, SCRATCH] if pretrained else [BASE, SCRATCH]
    seen: dict[str, int] = {}
    for index, variant in enumerate(variants):
        key = variant.name.casefold()
        if key in (BASE, PRETRAINED, SCRATCH):
            reason = f"{variant.name!r} names a model that is there already"
            raise broken_rule(f"variants.{index}.name", reason)
        if key in seen:
            reason = f"{variant.name!r} is already the name of variants[{seen[key]}]"
            raise broken_rule(f"variants.{index}.name", reason)
        if variant.start not in known:
            hint = nearest(variant.start, known)
            reason = f"{variant.start!r} is none of {', '.join(known)}{hint}"
            raise broken_rule(f"variants.{index}.start", reason)
        if variant.start == SCRATCH and variant.tune is None:
            reason = "a model with new weights needs a tune section"
            raise broken_rule(f"variants.{index}.tune", reason)
        if variant.group == BASELINE:
            reason = f"{BASELINE!r} is the group of the base alone: take another name"
            raise broken_rule(f"variants.{index}.group", reason)
        seen[key] = index
        known.append(variant.name)


def of_group(variants: tuple[VariantSection, ...], group: str) -> tuple[VariantSection, ...]:
    """Return the variants of a group, with all that they start from, in their order."""
    wanted = {variant.name for variant in variants if variant.group == group}
    for variant in reversed(variants):
        if variant.name in wanted:
            wanted.add(variant.start)
    return tuple(variant for variant in variants if variant.name in wanted)
